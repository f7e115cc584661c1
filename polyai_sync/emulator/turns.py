"""The agent's side of a session: one turn after the other, its actions made into events."""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from attrs import define

from polyai_sync.emulator import agent as acts
from polyai_sync.emulator.fault_rows import SYSTEM_TEXTS
from polyai_sync.emulator.streams import stream_events, whole_event, words

if TYPE_CHECKING:
    from polyai_sync.emulator.faults import Fault
    from polyai_sync.emulator.session import Session

__all__ = ["Turns"]

_log = logging.getLogger("polyai_sync.emulator")
_NOTICES = {"system.info": "INFO", "system.warning": "WARNING", "system.odd_level": "GOSSIP"}
_EMPTY: dict[str, Any] = {}


@define(kw_only=True, eq=False)
class _Job:
    """Something for the agent to do."""

    kind: str
    text: str = ""
    metadata: Mapping[str, Any] | None = None
    fault: Fault | None = None
    echo: str = ""
    actions: Iterable[acts.Action | str] = ()
    done: asyncio.Future[None] | None = None


class Turns:
    """Works off one session's turns, in order, whether or not anybody is connected."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.live: acts.Handoff | None = None
        self.errors: list[Exception] = []
        self._memory: dict[str, Any] = {}
        self._number = 0
        self._agent: acts.Agent | None = None
        self._jobs: deque[_Job] = deque()
        self._task: asyncio.Task[None] | None = None
        self._metadata: Mapping[str, Any] | None = None

    def greet(self, metadata: Mapping[str, Any] | None, fault: Fault | None) -> None:
        """The agent was asked to join."""
        self._submit(_Job(kind="greet", metadata=metadata, fault=fault))

    def answer(self, text: str, metadata: Mapping[str, Any] | None, echo_later: tuple[Fault, str] | None) -> None:
        """The user said something; the echo may still have to be sent."""
        fault, echo = echo_later or (None, "")
        self._submit(_Job(kind="answer", text=text, metadata=metadata, fault=fault, echo=echo))

    def act(self, actions: Iterable[acts.Action | str]) -> asyncio.Future[None]:
        """Do what a test says, after the turns that are due."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._submit(_Job(kind="act", actions=actions, done=done))
        return done

    def stop(self) -> None:
        """No more turns; the one under way is cut off unless it is what ends the conversation."""
        for job in self._jobs:
            if job.done is not None and not job.done.done():
                job.done.set_result(None)
        self._jobs.clear()
        if self._task is not None and self._task is not asyncio.current_task(asyncio.get_running_loop()):
            self._task.cancel()
            self._task = None  # what is asked for from now on must not wait for one that is going

    def _submit(self, job: _Job) -> None:
        self._jobs.append(job)
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._work())

    async def _work(self) -> None:
        while self._jobs:
            job = self._jobs.popleft()
            self._metadata = job.metadata
            try:
                if not self.session.ended:
                    await _JOBS[job.kind](self, job)
            except Exception as error:  # noqa: BLE001 - whatever it was, the session goes on and says so
                # An agent is somebody's code: a slip in it is what the real service calls "trouble responding".
                _log.exception("The agent of session %s failed", self.session.id)
                self.errors.append(error)
                self._fail("agent.no_response")
            finally:
                if job.done is not None and not job.done.done():
                    job.done.set_result(None)

    # --- jobs -----------------------------------------------------------------------------------------------------

    async def _greet(self, job: _Job) -> None:
        session, fault = self.session, job.fault
        name = fault.name if fault else ""
        if fault and fault.row.text:
            await self._system(fault)
            return
        if name == "start.no_join":
            return
        rules = session.rules
        session.joined = True
        session.publish(
            "POLY_AGENT_JOINED", {"agent_name": rules.agent_name, "agent_avatar_url": rules.agent_avatar_url}
        )
        if name == "start.no_greeting":
            return
        if fault and name == "start.slow_greeting":
            await asyncio.sleep(fault.options["delay"])
        await self._think(acts.Think())
        await self._speak(greeting=True, text="")

    async def _answer(self, job: _Job) -> None:
        session, faults = self.session, self.session.rules.faults
        reply_first = bool(job.fault and job.fault.options["reply_first"])
        if job.fault and not reply_first:
            await asyncio.sleep(job.fault.options["delay"])
            session.send_to_all(job.echo)
        fault = faults.take("turn", session.id)
        if await self._answered_by(fault) or session.ended:
            return
        if not session.joined:
            self._fail("session.conversation_not_found")
            return
        if self.live is None:
            await self._think(acts.Think())
        self._number += 1
        await self._speak(greeting=False, text=job.text)
        if job.fault and reply_first:
            await asyncio.sleep(job.fault.options["delay"])
            session.send_to_all(job.echo)
        if not session.ended and (fault := faults.take("reply", session.id)):
            session.happen(fault, None)

    async def _answered_by(self, fault: Fault | None) -> bool:
        """Let a fault stand for the answer. Says whether it did."""
        if fault is None:
            return False
        if fault.name in _NOTICES:
            self.session.system_message(fault.options["text"], level=_NOTICES[fault.name])
        elif fault.row.text:
            await self._system(fault)
            return True
        elif fault.name == "agent.silent":
            return True
        elif fault.name == "agent.slow":
            await asyncio.sleep(fault.options["delay"])
        else:
            self.session.happen(fault, None)
        return False

    async def _system(self, fault: Fault) -> None:
        await asyncio.sleep(fault.options["delay"])
        text = str(fault.options["text"] or fault.row.text)
        self.session.system_message(text, metadata=self._metadata if fault.options["metadata"] else None)
        if fault.options["then_end"]:
            self.session.end("REASON_USER_ABANDONED")

    def _fail(self, code: str, text: str | None = None) -> None:
        self.session.system_message(text or SYSTEM_TEXTS[code], metadata=self._metadata)

    async def _speak(self, *, greeting: bool, text: str) -> None:
        session = self.session
        if self._agent is None:
            self._agent = session.rules.agent()
        turn = acts.Turn(
            number=0 if greeting else self._number,
            text=text,
            greeting=greeting,
            live=self.live is not None,
            custom=dict((self._metadata or _EMPTY).get("custom") or _EMPTY),
            memory=self._memory,
            session=session.rules.view(session),
        )
        await self._perform(self._agent(turn))

    async def _act(self, job: _Job) -> None:
        await self._perform(job.actions)

    async def _perform(self, result: Any) -> None:
        actions = result if isinstance(result, Iterable) and not isinstance(result, str) else (result,)
        for action in actions:
            if self.session.ended:
                return
            if action is None:
                continue
            if isinstance(action, acts.Fail):
                self._fail(action.code, action.text)
                continue
            if isinstance(action, str):
                action = acts.Say(action) if self.live is None else acts.LiveSay(action)
            handler = _ACTIONS.get(type(action))
            if handler is None:
                raise TypeError(f"{action!r} is neither a string nor an action of polyai_sync.emulator")
            if await handler(self, action) is _STOP:
                return
            await asyncio.sleep(0)

    # --- actions ----------------------------------------------------------------------------------------------------

    async def _think(self, _: acts.Think) -> None:
        self.session.publish("POLY_AGENT_THINKING", {})
        if delay := self.session.rules.thinking_delay:
            await asyncio.sleep(delay)

    async def _say(self, action: acts.Say) -> object:
        session = self.session
        plain = not (action.call_actions or action.end_conversation)  # a chunk has no field for either
        if session.streaming and action.stream and plain:
            return await self._stream_chunks(words(action.text), action)
        fields: dict[str, Any] = {
            "attachments": list(action.attachments),
            "response_suggestions": list(action.suggestions),
        }
        if action.call_actions:
            fields["chat_call_actions"] = list(action.call_actions)
        if action.end_conversation:
            fields["end_conversation"] = True
        session.publish(*whole_event(action.text, **fields))
        return None

    async def _stream(self, action: acts.Stream) -> object:
        if self.session.streaming:
            return await self._stream_chunks(list(action.chunks), action)
        whole = acts.Say("".join(action.chunks), attachments=action.attachments, suggestions=action.suggestions)
        return await self._say(whole)

    async def _stream_chunks(self, chunks: list[str], action: acts.Say | acts.Stream) -> object:
        session, faults = self.session, self.session.rules.faults
        failing = faults.take("stream", session.id)
        taken = faults.take_all("stream", session.id)
        events = stream_events(chunks, action.attachments, action.suggestions, taken)
        if failing:
            events = events[: len(events) // 2]
        delay = taken["stream.slow"].options["delay"] if "stream.slow" in taken else session.rules.chunk_delay
        for number, (type_, payload) in enumerate(events):
            if number:
                await asyncio.sleep(delay)
            session.publish(type_, payload)
            if cut := faults.take("chunk", session.id):
                session.happen(cut, None)
        if failing:
            await self._system(failing)
            return _STOP
        return None

    async def _pause(self, action: acts.Pause) -> None:
        await asyncio.sleep(action.seconds)

    async def _emit(self, action: acts.Emit) -> None:
        self.session.publish(action.type, action.payload, action.metadata, None if action.transient else ...)

    async def _language(self, action: acts.Language) -> None:
        self.session.publish("LANGUAGE_CHANGED", {"language_code": action.code})

    async def _notice(self, action: acts.Notice) -> None:
        self.session.system_message(action.text, level=action.level)

    async def _handoff(self, action: acts.Handoff) -> object:
        publish = self.session.publish
        publish("POLY_AGENT_TRIGGERED_HANDOFF", {})
        if fault := self.session.rules.faults.take("handoff", self.session.id):
            await self._system(fault)
            return _STOP
        publish("POLY_AGENT_LEFT", {})
        publish("HANDOFF_ACCEPTED", {"queue_name": action.queue_name})
        for place in action.positions:
            status = {"queue_name": action.queue_name, "position_in_queue": place}
            wait = {
                "estimated_wait_seconds": action.wait_seconds * place,
                "display_message": f"You are number {place}.",
            }
            publish("HANDOFF_QUEUE_STATUS", {**status, **wait})
            await asyncio.sleep(action.step)
        self.live = action
        person = {"id": action.agent_id, "name": action.agent_name, "avatar_url": action.avatar_url}
        publish("LIVE_AGENT_JOINED", {"agent": person})
        return None

    async def _handoff_failed(self, action: acts.HandoffFailed) -> None:
        await self._handoff_over("HANDOFF_FAILED", action.reason)

    async def _handoff_timed_out(self, action: acts.HandoffTimedOut) -> None:
        await self._handoff_over("HANDOFF_TIMEOUT", action.reason)

    async def _handoff_over(self, type_: str, reason: str | None) -> None:
        self.session.publish("POLY_AGENT_TRIGGERED_HANDOFF", {})
        self.session.publish(type_, {"reason": reason} if reason else {})

    async def _client_handoff(self, action: acts.ClientHandoff) -> None:
        fields = {"reason": action.reason, "queue_name": action.queue_name, "route": action.route}
        self.session.publish("POLY_AGENT_TRIGGERED_HANDOFF", {})
        self.session.publish("CLIENT_HANDOFF_REQUIRED", {key: value for key, value in fields.items() if value})
        self.session.publish("POLY_AGENT_LEFT", {})
        self.session.joined = False

    def _person(self) -> dict[str, str]:
        live = self.live or acts.Handoff()
        return {"agent_id": live.agent_id, "agent_name": live.agent_name, "avatar_url": live.avatar_url}

    async def _live_typing(self, action: acts.LiveTyping) -> None:
        person = self._person()
        del person["avatar_url"]
        state = "TYPING_STATE_STARTED" if action.active else "TYPING_STATE_STOPPED"
        self.session.publish("LIVE_AGENT_TYPING", {"state": state, **person}, None, None)

    async def _live_say(self, action: acts.LiveSay) -> None:
        payload = {
            "message_id": str(uuid.uuid4()),
            "text": action.text,
            "attachments": list(action.attachments),
            "response_suggestions": list(action.suggestions),
        }
        self.session.publish("LIVE_AGENT_MESSAGE", {**payload, **self._person()})

    async def _live_leave(self, action: acts.LiveLeave) -> None:
        person = self._person()
        del person["avatar_url"]
        self.session.publish("LIVE_AGENT_LEFT", {**person, **({"reason": action.reason} if action.reason else {})})
        self.live = None

    async def _end(self, action: acts.End) -> None:
        self.session.end(action.reason)

    async def _drop(self, action: acts.Drop) -> None:
        self.session.drop(action.code, action.reason)

    async def _arm(self, action: acts.Arm) -> None:
        options = {"session_id": self.session.id, **action.options}
        self.session.rules.faults.add(action.name, times=action.times, after=action.after, **options)


_STOP = object()
_JOBS: Mapping[str, Callable[[Turns, _Job], Awaitable[None]]] = {
    "greet": Turns._greet,
    "answer": Turns._answer,
    "act": Turns._act,
}
_ACTIONS: Mapping[type, Callable[[Turns, Any], Awaitable[object]]] = {
    acts.Think: Turns._think,
    acts.Say: Turns._say,
    acts.Stream: Turns._stream,
    acts.Pause: Turns._pause,
    acts.Emit: Turns._emit,
    acts.Language: Turns._language,
    acts.Notice: Turns._notice,
    acts.Handoff: Turns._handoff,
    acts.HandoffFailed: Turns._handoff_failed,
    acts.HandoffTimedOut: Turns._handoff_timed_out,
    acts.ClientHandoff: Turns._client_handoff,
    acts.LiveTyping: Turns._live_typing,
    acts.LiveSay: Turns._live_say,
    acts.LiveLeave: Turns._live_leave,
    acts.End: Turns._end,
    acts.Drop: Turns._drop,
    acts.Arm: Turns._arm,
}
