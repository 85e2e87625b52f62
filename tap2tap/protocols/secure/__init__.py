"""The secure protocol: docs/protocol.md as code, without any I/O, clock or randomness of its own.

Workers and the link process load

    limits        every duration and limit
    wire          the layout of datagrams
    mac           the hash at the end of handshake datagrams: what a stranger's costs
    recent        what has been seen or said lately, in bounded memory
    mailbox       the channel between the link process and one worker

and the link process alone, as these need keys and `cryptography`,

    noise         the Noise framework, as much of it as one handshake needs
    handshake     the messages of the handshake: build them, take them apart
    sealing       the AEAD of a session, for proofs, confirmations and goodbyes
    actions       what the link asks the link process to do, and what it is told
    states        the states of a session and of the peer, and what leads from one to the next
    sessions      the sessions that are open, and the one to send on
    rate_limiter  what an initiation must pass before it may cost any curve arithmetic
    responder     from an initiation to its answer
    attempts      our own initiations: when, and which ones wait
    presence      whether the peer is there, and where
    path_check    whether it is really there, and where frames go meanwhile
    path_mtu      how long a datagram may be
    reports       what arrives, as each end tells the other
    segmentation  whether trains of datagrams arrive
    measurement   these three together: what is measured on the way to the peer
    exchange      control datagrams: what is answered, and for whom the rest is
    calls         when a series of handshakes begins and ends, and where its initiations go
    link          all of these together: the life of a cable

What seals and opens frames, and the replay window, are in tap2tap.workers.stages.secure.
"""
