"""langchain-openai with langchain-core's limiter: prints CPU microseconds a call, five rounds, as JSON."""

import asyncio
import json
import sys
import time

from langchain_core.rate_limiters import InMemoryRateLimiter
from langchain_openai import ChatOpenAI


async def main(base_url: str, times: int) -> None:
    limiter = InMemoryRateLimiter(requests_per_second=1e6, max_bucket_size=1e6)
    await asyncio.sleep(0.01)
    model = ChatOpenAI(
        model="gpt-4o", api_key="key", base_url=base_url, max_retries=0, rate_limiter=limiter
    )
    rounds = []
    for _ in range(6):
        started = time.process_time()
        for _ in range(times):
            await model.ainvoke("Say something.")
        rounds.append((time.process_time() - started) / times * 1e6)
    print(json.dumps(rounds[1:]))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
