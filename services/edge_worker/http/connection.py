"""Work that ends with the client: a disconnect cancels it at once."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from starlette.types import Receive


async def until_disconnect(receive: Receive, work: Coroutine[Any, Any, None]) -> bool:
    """Run ``work``; cancel it and wait for its clean-up if the client goes away first. True if it ran to its end."""
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_gone(receive))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        finished = task.done()
    finally:
        watch.cancel()
        if not task.done():
            task.cancel()
        await asyncio.wait({task, watch})
    if task.cancelled():
        return False
    error = task.exception()
    if error is not None:
        raise error
    return finished


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
