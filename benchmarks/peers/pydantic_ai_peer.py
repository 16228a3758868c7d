"""pydantic-ai: prints CPU microseconds a call, five rounds, as JSON."""

import asyncio
import json
import sys
import time

from pydantic_ai import Agent
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider


async def main(base_url: str, times: int) -> None:
    model = OpenAIChatModel("gpt-4o", provider=OpenAIProvider(base_url=base_url, api_key="key"))
    agent = Agent(model)
    rounds = []
    for _ in range(6):
        started = time.process_time()
        for _ in range(times):
            await agent.run("Say something.")
        rounds.append((time.process_time() - started) / times * 1e6)
    print(json.dumps(rounds[1:]))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
