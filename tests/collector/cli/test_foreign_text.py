"""What commands show of other people's text cannot move the terminal's cursor."""

from pathlib import Path

from click.testing import CliRunner

from collector.archive.storage import manifest
from collector.archive.storage.files import open_archive, write_info
from collector.archive.storage.manifest import File, Line
from collector.cli import archive
from collector.cli.cluster_lines import lines_of
from collector.cluster.spec import CellReport, HostRow, Report, View

CLEAR = "\x1b[2J"


def test_an_archive_of_others(tmp_path: Path) -> None:
    info = open_archive(tmp_path, create=True)
    info.chain_id = f"injective-1{CLEAR}"
    write_info(tmp_path, info)
    file = File(
        path="a", channel="book", date=CLEAR, first=0, last=9, rows=1, bytes=1, file_sha256=""
    )
    manifest.append(tmp_path, Line(act="seal", first=0, last=9, files=[file]))
    shown = CliRunner().invoke(archive.prune, [str(tmp_path), "--keep", "1d", "--dry-run"]).output
    assert "to be removed" in shown
    assert "\x1b" not in shown
    manifest.append(tmp_path, Line(act="lose", first=0, last=9, files=[], removed=["a"]))
    shown = CliRunner().invoke(archive.coverage, [str(tmp_path)]).output
    assert "injective-1\\x1b[2J" in shown


def test_the_last_words_of_a_cell() -> None:
    cell = CellReport(part="1/1", slot=0, problem=f"no market {CLEAR}")
    row = HostRow(host="10.0.0.1", room=1, report=Report(cells=(cell,)))
    assert "\x1b" not in "".join(lines_of(View(hosts=(row,), problems=(CLEAR,))))
