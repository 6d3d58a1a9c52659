"""Canary and shadow inside Serve: some requests are answered by both versions, and a judge compares the answers.

The champion's replica asks the candidate (the application beside it) as well, at the same time. A request falls where
its key falls: below the canary's share the caller hears the candidate, at the other end of the scale the candidate is
a shadow that nobody hears. The champion's answer is there in any case, so a candidate that crashes, hangs or answers
nonsense costs its callers a little time and never the answer.

The judge is one actor for all replicas. It lives as long as the promotion that let the candidate in; once it has seen
enough, or cannot be reached, every replica leaves the candidate alone.
"""

import asyncio
import hashlib
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import replace
from typing import Any

import ray
from ray import serve

from serving.canary import EVERYTHING, Evidence, Rules, decide
from serving.messages import Split
from serving.mirrored import Answered, findings, unusable
from simulation.audio import Waveform

log = logging.getLogger(__name__)

BESIDE = "unmuffle-beside"
"""The Serve application without HTTP routes: the candidate."""
JUDGE, NAMESPACE = "unmuffle-judge", "unmuffle"
"""Name of the actor that compares."""
KEY = "X-Unmuffle-Key"
"""Header by which a caller stays on one side: requests with equal keys fall alike. Without it, equal bodies do."""
ABANDONED_S = 10.0
"""A candidate that is not ready so long after the champion, and thrice as long as it may take, has no answer."""
MOST_UNDER_WAY = 8
"""Mirrored requests at a time in one replica; more are answered by the champion alone."""

Ask = Callable[[], Awaitable[Waveform]]
Report = Callable[[float, Answered, Answered, int], Awaitable[bool]]
"""Percent of the step, champion's answer, candidate's, sample rate; answers whether to go on."""


def position(key: str, body: bytes) -> float:
    """Where a request falls between 0 and 100: the same for equal keys, evenly spread over different ones."""
    return int.from_bytes(hashlib.sha256(key.encode() or body).digest()[:8], "big") / 2.0**64 * EVERYTHING


class Traffic:
    """Who answers which request, in one replica, while a candidate is let in."""

    def __init__(self, split: Split, report: Report) -> None:
        self.split = split
        self.stopped = False
        self._report = report
        self._under_way: set[asyncio.Task[None]] = set()

    async def answered(self, place: float, champion: Ask, candidate: Ask, sample_rate: int) -> tuple[Waveform, bool]:
        """The answer for a request at this place, and whether it is the candidate's. Raises what the champion does."""
        heard = place < self.split.percent
        mirrored = heard or place >= EVERYTHING - self.split.mirrored_percent
        if not mirrored or self.stopped or len(self._under_way) >= MOST_UNDER_WAY:
            return await champion(), False
        began, asked = time.perf_counter(), asyncio.ensure_future(_timed(candidate))
        try:
            samples = await champion()
        except BaseException:
            asked.cancel()
            raise
        ours = Answered(time.perf_counter() - began, samples)
        self._keep(self._judge(ours, asked, sample_rate))
        if heard:
            longest_s = self.split.tolerances.longest_s(ours.seconds)
            await asyncio.wait({asked}, timeout=max(0.0, began + longest_s - time.perf_counter()))
            if asked.done() and not unusable(ours, asked.result()):
                return asked.result().samples, True
        return samples, False

    async def _judge(self, ours: Answered, asked: "asyncio.Future[Answered]", sample_rate: int) -> None:
        """Let the two answers be compared; whatever hinders that ends the candidate's part in this replica."""
        longest_s = max(ABANDONED_S, 3 * self.split.tolerances.longest_s(ours.seconds))
        if not (await asyncio.wait({asked}, timeout=longest_s))[0]:
            asked.cancel()
        theirs = asked.result() if asked.done() else Answered(longest_s, problem=f"no answer within {longest_s:.0f} s")
        theirs = replace(theirs, problem=await asyncio.to_thread(unusable, ours, theirs))  # of the whole answer
        ours, theirs = ours.beginning(sample_rate), theirs.beginning(sample_rate)  # the rest need not travel
        try:
            go_on = await self._report(self.split.percent, ours, theirs, sample_rate)
        except Exception as error:  # Ray raises what became of the actor
            log.error("the canary cannot be judged, and gets no more requests here: %s", error)
            go_on = False
        self.stopped = self.stopped or not go_on

    def _keep(self, judging: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(judging)
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)


async def _timed(candidate: Ask) -> Answered:
    """What the candidate answers, or why it does not; never raises."""
    began = time.perf_counter()
    try:
        samples = await candidate()
    except Exception as error:  # whatever went wrong in another process
        return Answered(time.perf_counter() - began, problem=(str(error).strip() or repr(error)).splitlines()[-1])
    return Answered(time.perf_counter() - began, samples)


class Judge:
    """The actor that compares answers and counts; see `serving/canary.py` for what follows from the counts."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._evidence = Evidence(percent=0.0)

    def begin(self, percent: float) -> None:
        """A new step, without any evidence."""
        self._evidence = Evidence(percent=percent)

    def observe(self, percent: float, champion: Answered, candidate: Answered, sample_rate: int) -> bool:
        """Another mirrored request; whether there should be more. Nothing is counted once a step is decided."""
        if percent != self._evidence.percent:  # of a replica that has not heard of this step
            return True
        if decide(self._evidence, self._rules).action == "go on":
            self._evidence = self._evidence.with_one_more(self._found(champion, candidate, sample_rate))
        return decide(self._evidence, self._rules).action != "roll back"

    def _found(self, champion: Answered, candidate: Answered, sample_rate: int) -> dict[str, str]:
        """What is wrong with the candidate's answer; nothing can be told where the comparison itself fails."""
        rules = self._rules
        try:
            return findings(champion, candidate, sample_rate, rules.tolerances, rules.needs_quality)
        except Exception:  # a judge that ended would end the canary without a reason
            log.exception("two answers could not be compared")
            return {}

    def evidence(self) -> Evidence:
        """Of this step, so far."""
        return self._evidence


def judge(rules: Rules) -> Any:
    """A judge as an actor that every replica finds by its name; ends with the process that calls this."""
    return ray.remote(num_cpus=0)(Judge).options(name=JUDGE, namespace=NAMESPACE).remote(rules)


def in_serve(split: Split) -> Traffic | None:
    """The part that a replica of the champion takes; None where there is no judge to report to."""
    try:
        actor = ray.get_actor(JUDGE, namespace=NAMESPACE)
    except ValueError:
        log.error("there is no judge for the canary of %s, so it gets no requests here", split.candidate.name)
        return None

    async def report(percent: float, ours: Answered, theirs: Answered, sample_rate: int) -> bool:
        return bool(await actor.observe.remote(percent, ours, theirs, sample_rate))

    return Traffic(split, report)


async def ask_beside(samples: Waveform, sample_rate: int) -> Waveform:
    """The candidate's answer, from the application beside this one."""
    answer: Waveform = await serve.get_app_handle(BESIDE).ask.remote(samples, sample_rate)
    return answer
