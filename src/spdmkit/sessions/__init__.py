"""Secure sessions for applications: open one, send and receive, close it.

Blocking:

    from spdmkit.sessions import Terms, blocking

    with blocking.open_session("tcp://192.0.2.7", Terms.trusting("root.pem")) as session:
        session.send(b"hello")
        answer = session.receive(timeout=5)

With asyncio:

    from spdmkit.sessions import Terms, aio

    async with await aio.open_session("tcp://192.0.2.7", Terms.trusting("root.pem")) as session:
        await session.send(b"hello")
        answer = await session.receive(timeout=5)

`Terms` say whom to believe, who we are, and how. A session keeps itself alive (heartbeats), updates
its keys before their limit, answers the device's own requests, and says why it ended. Several
sessions may share a connection (`session.another`).
"""

from spdmkit.sessions.terms import SessionOver, Terms, establish

__all__ = ["SessionOver", "Terms", "establish"]
