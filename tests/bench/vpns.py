"""VPNs as peers of the benchmark: fastd and OpenVPN as layer-2 tunnels, wireguard-go for layer 3 only."""

import contextlib
import datetime
import os
import socket
import subprocess
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tap2tap.demo.lab import Lab, wait_for
from tests.bench.peers import DEVICE, PORT, Cable, MissingError, Peer, first_line, program


def certificate(
    name: str, issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    """A fresh certificate for a day: signed by the issuer, or else an authority that signs itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    return made, key


class OpenVpn(Peer):
    """OpenVPN, point to point over UDP, TLS, AES-256-GCM, a tap on each side. Kernel offload exists for tun only."""

    name = "openvpn"
    label = "OpenVPN AES-256-GCM"
    group = "other"

    def version(self) -> str:
        """The first two words of its banner."""
        return " ".join(first_line([program("openvpn"), "--version"], "OpenVPN").split()[:2])

    def lay(self, lab: Lab) -> Cable:
        """Certificates made for this one run, then both ends."""
        cable = Cable(lab, mtu=1434)
        authority = certificate("authority")
        ca = cable.file("ca.pem", authority[0].public_bytes(Encoding.PEM).decode())
        for side, here, there, role in (
            ("right", lab.right, lab.left, "--tls-server"),
            ("left", lab.left, lab.right, "--tls-client"),
        ):
            made, key = certificate(side, authority)
            private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
            argv = [program("openvpn"), "--dev", DEVICE, "--dev-type", "tap", "--proto", "udp4", "--verb", "3"]
            argv += ["--local", here.ipv4, "--lport", str(PORT), "--remote", there.ipv4, str(PORT), role]
            argv += ["--dh", "none"] if role == "--tls-server" else []
            argv += ["--ca", ca, "--cert", cable.file(f"{side}.pem", made.public_bytes(Encoding.PEM).decode())]
            argv += ["--key", cable.file(f"{side}.key", private)]
            argv += ["--data-ciphers", "AES-256-GCM", "--cipher", "AES-256-GCM", "--tun-mtu", "1434"]
            cable.start(side, argv)
        return cable


class Fastd(Peer):
    """fastd, a layer-2 VPN in C. This method authenticates who calls, and nothing that follows."""

    name = "fastd-null"
    label = "fastd null"
    group = "other"
    method = "null"
    mtu = 1457  # it adds one byte

    def version(self) -> str:
        """It knows it with --version."""
        return first_line([program("fastd"), "--version"], "fastd")

    def lay(self, lab: Lab) -> Cable:
        """Fresh keys, then both ends."""
        cable = Cable(lab, mtu=self.mtu)
        keys = {}
        for side in ("left", "right"):
            argv = [program("fastd"), "--generate-key"]
            words = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
            keys[side] = words[words.index("Secret:") + 1], words[words.index("Public:") + 1]
        for side, other in (("left", "right"), ("right", "left")):
            settings = f"""
                mode tap; interface "{DEVICE}"; mtu {self.mtu}; method "{self.method}"; log level warn;
                bind {lab[side].ipv4}:{PORT}; secret "{keys[side][0]}";
                peer "{other}" {{ key "{keys[other][1]}"; remote {lab[other].ipv4} port {PORT}; }}
            """
            cable.start(side, [program("fastd"), "--config", cable.file(f"{side}.conf", settings)])
        return cable


class FastdSalsa(Fastd):
    """The same with its fastest method that encrypts and authenticates."""

    name = "fastd-salsa"
    label = "fastd salsa2012+umac"
    method = "salsa2012+umac"
    mtu = 1434  # it adds 24 bytes


class WireGuardGo(Peer):
    """wireguard-go as the distribution has it, configured through its socket. It carries no frames."""

    name = "wireguard-go"
    label = "wireguard-go"
    group = "other"
    frames = False

    def binary(self) -> str:
        """Which program; raises MissingError."""
        return program("wireguard-go")

    def version(self) -> str:
        """It knows it with --version."""
        return first_line([self.binary(), "--version"], "wireguard-go").replace(" v", " ")

    def lay(self, lab: Lab) -> Cable:
        """Both ends; their control sockets share one folder, so the two devices need different names."""
        unique = os.getpid() % 100_000
        cable = Cable(lab, f"wg{unique}l", f"wg{unique}r", mtu=1440)
        keys = {side: X25519PrivateKey.generate() for side in ("left", "right")}
        for side, other, device in (("left", "right", cable.left), ("right", "left", cable.right)):
            cable.start(side, [self.binary(), "-f", device], {"LOG_LEVEL": "error"})
            control = Path("/var/run/wireguard", f"{device}.sock")
            with contextlib.suppress(TimeoutError):
                wait_for(control.exists, 5)
            settings = {
                "private_key": keys[side].private_bytes_raw().hex(),
                "listen_port": PORT,
                "public_key": keys[other].public_key().public_bytes_raw().hex(),
                "endpoint": f"{lab[other].ipv4}:{PORT}",
                "allowed_ip": "0.0.0.0/0",
            }
            lines = "".join(f"{key}={value}\n" for key, value in settings.items())
            try:
                with socket.socket(socket.AF_UNIX) as talk:
                    talk.connect(str(control))
                    talk.sendall(f"set=1\n{lines}\n".encode())
                    answer = talk.recv(1000)
            except OSError as error:
                raise MissingError(f"wireguard-go does not start: {error}; {cable.failure()}") from error
            if answer.strip() != b"errno=0":
                raise MissingError(f"wireguard-go refuses its settings: {answer!r}")
        return cable


class WireGuardGoGiven(WireGuardGo):
    """A wireguard-go of the user's choice: the packaged one may be years behind."""

    name = "wireguard-go-given"
    label = "wireguard-go, current"

    def binary(self) -> str:
        """The binary named by the environment; raises MissingError."""
        if binary := os.environ.get("TAP2TAP_BENCH_WIREGUARD_GO"):
            return binary
        raise MissingError("TAP2TAP_BENCH_WIREGUARD_GO names no binary")
