"""The simulator's own endpoints, below `/_sim/`: for tests in other processes and languages."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llm_sim.errors import ScriptError
from llm_sim.exchange import Answer, Call, Json, Request
from llm_sim.fields import dump
from llm_sim.script import Script

if TYPE_CHECKING:
    from llm_sim.simulator import Simulator

PREFIX = "/_sim/"


def answer(simulator: Simulator, request: Request) -> Answer:
    """Answer `GET report`, `GET calls`, `POST reset` and `POST script` (YAML or JSON).

    These calls need no key and are not counted.
    """
    match request.method, request.path.removeprefix(PREFIX):
        case "GET", "report":
            return Answer(body=dump(simulator.report().to_dict()))
        case "GET", "calls":
            return Answer(body=dump([_call(call) for call in simulator.referee.calls]))
        case "POST", "reset":
            simulator.reset()
            return Answer(body=dump({"reset": True}))
        case "POST", "script":
            try:
                script = Script.parse(request.body.decode("utf-8", "replace"), name="script")
            except ScriptError as error:
                return Answer(status=400, body=dump({"error": str(error)}))
            simulator.use_script(script)
            return Answer(body=dump({"rules": len(script.rules)}))
    paths = "GET report, GET calls, POST reset, POST script"
    return Answer(status=404, body=dump({"error": f"below {PREFIX} there is {paths}"}))


def _call(call: Call) -> Json:
    return {
        "serial": call.serial,
        "at": call.at,
        "method": call.method,
        "path": call.path,
        "key": call.key,
        "model": call.model,
        "status": call.status,
        "streamed": call.streamed,
        "fault": call.fault,
        "ended": call.ended,
        "body": call.body,
    }
