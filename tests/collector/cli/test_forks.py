"""Children that are started while gRPC calls are made."""

import os
import subprocess
import sys
from typing import Final

_SCRIPT: Final = """
import asyncio, sys
from collector.cli.main import main
sys.argv = ["collector", "--version"]
try:
    main()
except SystemExit:
    pass
import grpc.aio, uvloop

async def call(port):
    while True:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            try:
                await channel.unary_unary("/no/service")(b"", timeout=0.05)
            except grpc.aio.AioRpcError:
                pass

async def spawn():
    codes = set()
    for _ in range(150):
        child = await asyncio.create_subprocess_exec("true")
        codes.add(await child.wait())
    return codes

async def work():
    calls = [asyncio.create_task(call(port)) for port in range(1, 7)]
    codes = await spawn()
    for task in calls:
        task.cancel()
    await asyncio.gather(*calls, return_exceptions=True)
    print(codes)

uvloop.run(work())
"""


def test_none_of_them_crashes() -> None:
    environment = {k: v for k, v in os.environ.items() if k != "GRPC_ENABLE_FORK_SUPPORT"}
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env=environment, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert (done.returncode, done.stdout.splitlines()[-1:]) == (0, ["{0}"]), done.stderr[-2_000:]
