"""The secure protocol: docs/protocol.md as code, without any I/O, clock or randomness of its own.

    wire       the layout of datagrams and the AEAD
    replay     which counters have been seen, a whole train at a time
    mac        the hash at the end of handshake datagrams: what a stranger's costs
    mailbox    the channel between the supervisor and one worker
    recent     what has been seen or said lately, in bounded memory
    noise      the Noise framework, as much of it as one handshake needs
    handshake  the messages of the handshake: build them, take them apart
    actions    what the link asks its supervisor to do, and what it is told
    limits     what an initiation must pass before it may cost any curve arithmetic
    sessions   the sessions that are open, and the one to send on
    responder  from an initiation to its answer
    attempts   our own initiations: when, and which ones wait
    presence   whether the peer is there, and where
    link       all of these together: the life of a cable

A supervisor imports link, actions and mailbox; workers import the first five, and so nothing of Noise or key files.
"""
