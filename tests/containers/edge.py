"""The proxy of docker/edge before the stack: games, REST clients and links through TLS, and what a broken one does."""

from __future__ import annotations

import socket
import ssl

import requests

from tests.containers.stack import ContainerStack, wait_until
from tests.containers.users import expect
from tests.support.boxes import certificates
from tests.support.ports import free_ports
from tests.support.programs import program
from tests.support.unity import BrokenAnswer, V3Reader, send_post

BODY = {"prompt": "The lighthouse keeper said", "n_predict": 16, "stream": True}
IMAGE = {"kind": "sd.txt2img", "input": {"prompt": "a lighthouse", "width": 64, "height": 64, "steps": 1}}


class ContainerEdge:
    """The edge of a stack, started by the commands of its README."""

    def __init__(self, stack: ContainerStack) -> None:
        program("openssl", "openssl")
        self._stack = stack
        (self.port,) = free_ports(1)
        self.url = f"https://127.0.0.1:{self.port}"
        self.ca, pem = certificates(stack.source / "edge-certificates", "127.0.0.1")
        # The container's user has to read it.
        pem.chmod(0o644)
        settings = stack.edge_settings.replace("https://play.example", self.url).replace("/etc/ssl/play.pem", str(pem))
        expect(str(pem) in settings and self.url in settings, f"the README's settings are those known here: {settings}")
        stack.use_edge(f"{settings}EDGE_PORT={self.port}\n")

    def start(self) -> None:
        """Run the README's commands."""
        self._stack.shell(self._stack.edge_commands)
        wait_until(self.answers, "the edge answers")

    def answers(self) -> bool:
        """Return whether ``/ready`` says 200 through the edge."""
        try:
            return requests.get(f"{self.url}/ready", verify=str(self.ca), timeout=5).status_code == 200
        except requests.RequestException:
            return False

    def game(self) -> bool:
        """Return whether a game is answered with a whole stream, at TCP level."""
        try:
            plain = socket.create_connection(("127.0.0.1", self.port), 60.0)
            context = ssl.create_default_context(cafile=str(self.ca))
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as connection:
                send_post(self.url, "/completion", BODY, self._stack.token, connection=connection)
                return bool(V3Reader().read(connection).content)
        except (OSError, BrokenAnswer):
            return False

    def rest(self) -> None:
        """Make an image and fetch it; each link is the public one."""
        headers = {"Authorization": f"Bearer {self._stack.token}", "Prefer": "wait=60"}
        with requests.Session() as session:
            # Or a bundle of this machine's environment would go first.
            session.trust_env = False
            session.verify = str(self.ca)
            made = session.post(f"{self.url}/tasks", json=IMAGE, headers=headers, timeout=90)
            expect(made.status_code == 200, f"an image is made: {made.status_code} {made.text[:500]}")
            expect(made.headers.get("X-Request-ID"), "the request has an id")
            task = made.json()
            links = [task["links"]["self"], *(image["url"] for image in task["result"]["images"])]
            expect(all(link.startswith(self.url) for link in links), f"links are public: {links}")
            image = session.get(links[-1], headers=headers, timeout=30)
            expect(image.content.startswith(b"\x89PNG"), f"the image is there: {image.status_code}")
