"""The limit: a bare `AsyncOpenAI` loop over the aiohttp transport, nothing kept, nothing counted.

A process of its own: `python -m tests.benchmarks.bare URL COUNT IN_FLIGHT` prints one JSON object.
"""

import asyncio
import json
import resource
import sys
import time

import psutil
from openai import AsyncOpenAI, DefaultAioHttpClient

from tests.benchmarks.load import MAIL
from tests.benchmarks.stage import PLATFORM_KEY
from workers.analyses.operations import classify
from workers.providers.openai import _strict_schema


async def run(url: str, count: int, in_flight: int) -> dict[str, float]:
    """Make `count` calls, `in_flight` at a time; what they took."""
    question = classify.question(MAIL, model="gpt-5.4-mini", categories=[], overrides=[])
    schema = {"type": "json_schema", "json_schema": _strict_schema(question.schema)}
    client = AsyncOpenAI(
        api_key=PLATFORM_KEY,
        base_url=f"{url}/v1",
        max_retries=0,
        http_client=DefaultAioHttpClient(timeout=60.0),
    )
    numbers = iter(range(count))

    async def work() -> None:
        for _ in numbers:
            answer = await client.chat.completions.create(
                model=question.model,
                messages=[
                    {"role": "system", "content": question.system},
                    {"role": "user", "content": question.user},
                ],
                response_format=schema,  # type: ignore[arg-type]  # the schema as the SDK makes it
                max_completion_tokens=question.max_output_tokens,
            )
            question.schema.model_validate_json(answer.choices[0].message.content or "")

    me = psutil.Process()
    cpu, began = sum(me.cpu_times()[:2]), time.monotonic()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    seconds = time.monotonic() - began
    used = sum(me.cpu_times()[:2]) - cpu
    await client.close()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"seconds": seconds, "cpu_seconds": used, "peak_rss_mb": peak / 1024}


def main() -> None:
    """Run as the command line says."""
    url, count, in_flight = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    print(json.dumps(asyncio.run(run(url, count, in_flight))))


if __name__ == "__main__":
    main()
