"""The tunnel once all that it needs is there: it gives up all privileges, and keeps its children running."""

import gc

from tap2tap import endpoint, log, privileges
from tap2tap.config import Config
from tap2tap.counters import INTERPRETED, DataPlane, Slot, State
from tap2tap.endpoint import Endpoint
from tap2tap.errors import FAILURE, OK, StartError
from tap2tap.supervisor import state
from tap2tap.supervisor.binding import Binding
from tap2tap.supervisor.bridges import Bridges
from tap2tap.supervisor.cable import describe
from tap2tap.supervisor.calling import Calling
from tap2tap.supervisor.candidates import Candidates
from tap2tap.supervisor.hooks import Hooks
from tap2tap.supervisor.link_process import LinkProcess
from tap2tap.supervisor.loop import Part, Watch
from tap2tap.supervisor.plain_path import PlainPath
from tap2tap.supervisor.process import Identity
from tap2tap.supervisor.publisher import Publisher
from tap2tap.supervisor.routes import Routes
from tap2tap.supervisor.signals import Interrupted, Signals
from tap2tap.supervisor.tap_keeper import Keeper
from tap2tap.supervisor.tap_users import Queues
from tap2tap.supervisor.wake_ups import Sleep
from tap2tap.supervisor.workers import make_workers
from tap2tap.workers import ciphers
from tap2tap.workers.worker import Cable, data_plane


class Tunnel:
    """One tunnel; all that it is given stays the caller's. `link` is None in the plain protocol."""

    def __init__(
        self,
        config: Config,
        cable: Cable,
        link: LinkProcess | None,
        hooks: Hooks,
        candidates: Candidates,
        keeper: Keeper,
        binding: Binding,
        publisher: Publisher,
        stop: Signals,
    ) -> None:
        self._cable, self._link, self._hooks, self._binding = cable, link, hooks, binding
        self._keeper, self._publisher, self._stop = keeper, publisher, stop
        self._calling = Calling(cable, candidates, link)
        self._workers = make_workers(cable, config, link)

    def carry(self, become: Identity) -> int:
        """Give up all privileges, and carry frames until a signal comes; return the exit code.

        Raises StartError, Interrupted when the signal comes before the tunnel is up.
        """
        self._hooks.introduce(self._cable.name)
        self._hooks.run("up", self._cable.name, describe(self._cable), self._stop)
        self._prepare(become)
        try:
            for worker in self._workers:
                worker.start()
            self._set_state(State.UP)
            self._announce()
            if self._link:
                self._link.on_peer_event = self._run_peer_hook
                self._link.lend(self._cable, self._calling.known)
            self._binding.on_renewed = self._use_socket
            children = [*self._workers, *([self._link.child] if self._link else [])]
            Watch(children, self._stop, self._parts(), self._hang_up).run()
        finally:
            self._set_state(State.STOPPING)
            for worker in self._workers:
                worker.end()
            if self._link:
                self._link.say_goodbye()
            code = self._close()
        return code

    def _prepare(self, become: Identity) -> None:
        """Do what takes privileges, and give them up. The workers have what is loaded, and permitted, then."""
        if not self._link:
            log.warning("no --key: frames are neither encrypted nor authenticated")
        else:
            library = ciphers.library()  # loads it, for all workers
            log.debug("sealing", library=library)
        if data_plane() is DataPlane.INTERPRETED:
            log.warning(f"data plane: {INTERPRETED}")
        if refused := privileges.drop(*become):
            log.warning("the kernel refuses some protection", refused=",".join(refused))

    def _parts(self) -> list[Part]:
        """What is looked after beside the children."""
        cable, link, calling = self._cable, self._link, self._calling
        routes = Routes(cable, lambda: calling.known, calling.wake, lambda: self._binding.bound)
        return [
            self._hooks,
            self._publisher,
            self._keeper,
            self._binding,
            calling,
            routes,
            link or PlainPath(cable, routes),
            Bridges(cable.tap, parts=link is not None),
            Queues(cable.tap),
            Sleep(cable, calling.wake),
        ]

    def _hang_up(self) -> None:
        """SIGHUP has come."""
        state.tell(self._cable.memory)
        self._calling.hang_up()
        self._calling.wake()

    def _set_state(self, to: State) -> None:
        self._cable.memory.slots[Slot.STATE] = to
        self._publisher.look()

    def _announce(self) -> None:
        """Say that the tunnel is up."""
        gc.freeze()
        cable, slots = self._cable, self._cable.memory.slots
        if last := self._link and self._link.last_peer():
            log.info("calling the peer where it was last", endpoint=last)
        elif not cable.client:
            log.info("waiting for the first peer to call")
        log.info(
            "tunnel is up",
            interface=cable.name,
            mtu=cable.mtu,
            local=endpoint.load(slots, Slot.LOCAL),
            remote=endpoint.load(slots, Slot.PEER) or ("not known yet" if cable.client else "any"),
        )

    def _use_socket(self) -> None:
        """Have all use the socket that is bound now, tell where that is, and call the peer by it."""
        endpoint.store(self._cable.memory.slots, Slot.LOCAL, self._binding.local)
        if self._link:
            self._link.renew_socket()
        for worker in self._workers:
            worker.renew()
        self._calling.wake()

    def _run_peer_hook(self, event: str, peer: Endpoint) -> None:
        """Have the hook of an event of the peer run; `peer` is where it is, or was last."""
        payload = self._cable.memory.slots[Slot.PATH]
        path_mtu = str(payload + peer.headers) if payload else ""
        facts = {**describe(self._cable), "TAP2TAP_PEER": str(peer), "TAP2TAP_PATH_MTU": path_mtu}
        self._hooks.ask(event, self._cable.name, facts)

    def _close(self) -> int:
        """Run the down hook; return the exit code."""
        try:
            self._hooks.run("down", self._cable.name, describe(self._cable), self._stop)
        except StartError as error:
            log.error(str(error))
            return FAILURE
        except Interrupted:
            log.warning("not waiting for --down any longer")
            return FAILURE
        return OK
