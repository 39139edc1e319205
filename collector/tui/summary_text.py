"""A summary in words and columns. Pure."""

from datetime import UTC, datetime
from typing import Final

from collector.client.summary import ChainIdentity, Path, Proof, Summary, TakenUp
from shards.protocol.text import printable


def one_line(summary: Summary, frames_per_s: float) -> str:
    """Return the essentials in one line, for logs."""
    markets, latency = summary.markets, summary.hop("recv_to_aggregator")
    return (
        f"{markets.live}/{markets.wanted} markets live{_without_any(summary)}, "
        f"coverage {summary.coverage.now:.4f}, completeness {completeness(summary)}, "
        f"block {summary.blocks.head}, {frames_per_s:.0f} frames/s, "
        f"latency p50 {latency.p50:.0f} µs p99 {latency.p99:.0f} µs"
        + ("; the chain is halted" if summary.halted else "")
        + (f"; {away}" if (away := away_text(summary)) else "")
    )


def away_text(summary: Summary) -> str:
    """Return a warning that the summary is old, and its age; empty for a current one."""
    away_s = summary.away_s
    return f"the aggregator is away, this is from {away_s:.0f} s ago" if away_s >= 1 else ""


def _without_any(summary: Summary) -> str:
    part = summary.trade_proof.part
    return f" (part {part} has none yet)" if part and not summary.markets.requested else ""


def completeness(summary: Summary) -> str:
    """Return the completeness of the blocks; "not provable" for sources that send none."""
    if summary.blocks.provable:
        return f"{summary.completeness:.6f}"
    return "not provable"


def is_started(summary: Summary) -> bool:
    """Say whether every market is live, or is not going to be."""
    states = summary.markets.states
    return not any(states.get(name) for name in ("pending", "syncing"))


def progress_line(summary: Summary, *, bar: int = 0) -> str:
    """Return the progress of a start, with a bar of this many characters."""
    markets = summary.markets
    done = bar * markets.live // max(1, markets.wanted)
    drawn = f"{'█' * done}{'░' * (bar - done)}  " if bar else ""
    return f"{drawn}{markets.live} of {markets.wanted} markets live{_others(markets.states)}"


def block_lines(summary: Summary, frames_per_s: float) -> list[str]:
    """Format the summary as the block that a terminal shows."""
    markets, gaps = summary.markets, summary.gaps
    latency, events, frames = summary.hop("recv_to_aggregator"), summary.events, summary.frames
    lines = [
        "",
        f"markets   {markets.live} of {markets.wanted} live"
        + _without_any(summary)
        + _others(markets.states)
        + f"   coverage {summary.coverage.now:.4f} (mean {summary.coverage.mean:.4f})",
        f"blocks    {_blocks(summary)}",
        f"events    {events.trades} trades, {events.book_updates} book updates"
        f"   gaps {gaps.open} open, {gaps.closed} closed",
        f"proof     {proof_text(summary.trade_proof)}",
        *([f"state     {taken_up}"] if (taken_up := _taken_up(summary.state.taken_up)) else []),
        *([f"chain     {replaced}"] if (replaced := _replaced(summary.chain)) else []),
        f"frames    {frames_per_s:.0f}/s, {frames.published} published, {frames.dropped} dropped",
        f"latency   receive to aggregator p50 {latency.p50:.0f} µs, "
        f"p99 {latency.p99:.0f} µs, max {latency.max / 1000:.1f} ms",
        *map(_path, summary.paths),
        *([f"page      {summary.web}"] if summary.web else []),
        f"hops p99  {_hops(summary)}",
        "",
        f"{'process':<14}{'pid':>8}{'CPU %':>8}{'MB':>8}{'restarts':>10}  priority",
    ]
    lines += [
        f"{p.name:<14}{p.pid:>8}{p.cpu_percent:>8.1f}{p.rss_mb:>8.1f}{p.restarts:>10}"
        f"  {p.scheduling or '-'}"
        for p in summary.processes
    ]
    return lines + [printable(line) for line in trouble_lines(summary)]


def _blocks(summary: Summary) -> str:
    blocks = summary.blocks
    return (
        f"head {blocks.head}"
        + (f", {every}" if (every := pace(summary)) else "")
        + (", HALTED" if summary.halted else "")
        + f"   completeness {completeness(summary)}"
        + f"   replayed {blocks.replayed}, missing {blocks.missing}"
    )


_HOPS: Final = (
    ("recv_to_decoded", "decoded"),
    ("decoded_to_pushed", "pushed"),
    ("push_to_aggregator", "aggregator"),
    ("aggregator_to_published", "published"),
)


def _hops(summary: Summary) -> str:
    """Format the latency of each hop."""
    hops = [f"{name} {summary.hop(hop).p99 / 1000:.2f}" for hop, name in _HOPS]
    return f"received → {' → '.join(hops)} ms; a block {summary.hop('block_span').p99 / 1000:.1f}"


def _path(path: Path) -> str:
    """Describe one of several nodes that are read at once."""
    name = printable(path.endpoint) + ("" if path.markets else ", not connected")
    blocks = path.first + path.second
    share = f"first with {100 * path.first / blocks:.0f} % of {blocks}" if blocks else "no block"
    worse = f", WORSE: {printable(path.reason)}" if path.worse else ""
    return (
        f"node      {name}: {share}, {path.compared} compared, {path.differed} differ"
        f", {path.contradicted} against the record{worse}"
    )


def proof_text(proof: Proof) -> str:
    """Say what the trade ids prove."""
    if not proof.provable:
        return proof.reason or "not provable"
    holes = f", {proof.holes} with trades missing" if proof.holes else ""
    return f"all trades of {proof.whole or 0} blocks are here, by their ids{holes}"


def _taken_up(found: TakenUp | None) -> str:
    """Say where this run took up what another one left."""
    if found is None:
        return ""
    at = datetime.fromtimestamp(found.saved_at / 1e9, UTC)
    return (
        f"took up {found.markets} markets after block {found.lowest}, "
        f"as saved on {at:%Y-%m-%d %H:%M:%S} UTC"
    )


def pace(summary: Summary) -> str:
    """Return how often blocks come; empty if the source does not show it, or not yet."""
    return f"every {summary.block_time_s:.2f} s" if summary.block_time_s else ""


def _replaced(chain: ChainIdentity) -> str:
    """Say that another chain replaced the one that was collected, and when."""
    if not chain.former:
        return ""
    at = datetime.fromtimestamp(chain.former[-1].until / 1e9, UTC)
    return f"replaced by another one on {at:%Y-%m-%d %H:%M:%S} UTC; blocks and gaps count from then"


def _others(states: dict[str, int]) -> str:
    others = [f"{count} {name}" for name, count in sorted(states.items()) if name != "live"]
    return f" ({', '.join(others)})" if others else ""


def trouble_lines(summary: Summary) -> list[str]:
    """List problems: gaps, open breakers, unfit nodes, refused requests."""
    lines = [f"AWAY      {away}"] if (away := away_text(summary)) else []
    if error := summary.state.error:
        lines.append(f"state     {error}")
    lines += [
        f"hole      {hole.symbol}: blocks "
        + ", ".join(f"{first}-{last}" for first, last in hole.heights[:5])
        for hole in summary.holes[:10]
    ]
    seen = {
        (endpoint.endpoint, endpoint.breaker): endpoint.reason
        for shard in summary.shards
        for endpoint in shard.endpoints
        if endpoint.breaker != "closed"
    }
    lines += [
        f"breaker   {endpoint} is {breaker}: {reason}"
        for (endpoint, breaker), reason in seen.items()
    ]
    lines += [
        f"node      {node.endpoint} ({node.role}) is not fit: {node.reason}"
        for node in summary.chain.nodes
        if not node.fit
    ]
    lines += [
        f"refused   {host.host} answered {host.refused} of {host.made} requests "
        f"with HTTP 429; the next waits {host.wait_s:.1f} s"
        for host in summary.requests
        if host.refused
    ]
    clock = summary.clock
    if clock.blocks and not clock.trusted:
        lines.append(f"clock     {clock.reason}")
    return lines
