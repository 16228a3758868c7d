"""litellm: prints CPU microseconds a call, five rounds, as JSON."""

import asyncio
import json
import os
import sys
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"

import litellm


async def main(base_url: str, times: int) -> None:
    rounds = []
    for _ in range(6):
        started = time.process_time()
        for _ in range(times):
            await litellm.acompletion(
                model="openai/gpt-4o",
                messages=[{"role": "user", "content": "Say something."}],
                api_key="key",
                api_base=base_url,
                num_retries=0,
            )
        rounds.append((time.process_time() - started) / times * 1e6)
    print(json.dumps(rounds[1:]))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
