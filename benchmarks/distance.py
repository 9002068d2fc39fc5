"""A store as far away as a network makes it: a TCP relay that hands every answer on some milliseconds later."""

import asyncio
import contextlib
import threading
import urllib.parse
from collections.abc import Iterator


@contextlib.contextmanager
def away(url: str, seconds: float) -> Iterator[str]:
    """A URL by which the server at `url` answers so much later. Bytes are not slowed down, only delayed."""
    address = urllib.parse.urlsplit(url)
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, daemon=True).start()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(address.hostname, address.port)
        with contextlib.suppress(asyncio.CancelledError):  # by _end_all; the streams would report it as an error
            await asyncio.gather(_forward(reader, back), _forward(there, writer, seconds))

    server = asyncio.run_coroutine_threadsafe(asyncio.start_server(relay, "127.0.0.1", 0), loop).result()
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        asyncio.run_coroutine_threadsafe(_end_all(), loop).result()
        loop.call_soon_threadsafe(loop.stop)


async def _forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float = 0) -> None:
    """Hand bytes on, each so much after it came, and then the end of the stream."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            loop.call_later(seconds, writer.write, data)
    loop.call_later(seconds, writer.close)


async def _end_all() -> None:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
