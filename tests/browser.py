"""A real Chromium without a window, driven by its DevTools protocol."""

import base64
import json
import shutil
import subprocess
import time
import urllib.request
from pathlib import Path

import pytest
import websocket

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """One tab of a browser that is ended with it.

    Attributes:
        complaints: What its console said that is no mere information, and exceptions of the page.
        requests: The addresses that it asked for.
    """

    def __init__(self, profile: Path):
        path = next(filter(None, map(shutil.which, BROWSERS)), None)
        if not path:
            pytest.skip("no Chromium on this machine; on Debian: apt-get install --no-install-recommends chromium")
        self.complaints, self.requests, self._sent = [], [], 0
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        told = [f"--user-data-dir={profile}", "--remote-debugging-port=0", "--remote-allow-origins=*", "about:blank"]
        self._process = subprocess.Popen([path, *options, *told], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        port = _wait(lambda: _first_line(profile / "DevToolsActivePort"))
        tabs = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
        address = next(tab["webSocketDebuggerUrl"] for tab in tabs if tab["type"] == "page")
        self._socket = websocket.create_connection(address, timeout=30)
        for domain in ("Page", "Runtime", "Log", "Network", "DOM"):
            self.call(f"{domain}.enable")

    def close(self):
        self._socket.close()
        self._process.terminate()
        self._process.wait()

    def call(self, method, **parameters):
        """Call a method of the protocol; its result."""
        self._sent += 1
        self._socket.send(json.dumps({"id": self._sent, "method": method, "params": parameters}))
        while (message := json.loads(self._socket.recv())).get("id") != self._sent:
            self._heard(message)
        assert "error" not in message, message
        return message["result"]

    def _heard(self, message):
        told = message.get("params", {})
        if message["method"] == "Runtime.exceptionThrown":
            self.complaints.append(told["exceptionDetails"]["exception"].get("description"))
        elif message["method"] == "Log.entryAdded" and told["entry"]["level"] != "info":
            self.complaints.append(told["entry"]["text"])
        elif message["method"] == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    def look(self, width, height, scheme="light", touch=False, scale=1):
        """Be a screen of that size, in pixels, with that colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=touch
        )
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch)
        feature = {"name": "prefers-color-scheme", "value": scheme}
        self.call("Emulation.setEmulatedMedia", features=[feature])

    def open(self, url, until="document.readyState === 'complete'"):
        self.call("Page.navigate", url=url)
        self.wait(until)

    def run(self, script):
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition):
        """Wait until a JavaScript expression is true."""
        return _wait(lambda: self.run(condition))

    def text(self, selector):
        return self.run(f"document.querySelector({json.dumps(selector)}).innerText")

    def box(self, selector):
        """(left, top, width, height) on the screen, scrolled into view."""
        return self.run(
            f"(e => (e.scrollIntoView({{block: 'nearest'}}), e = e.getBoundingClientRect(),"
            f" [e.x, e.y, e.width, e.height]))(document.querySelector({json.dumps(selector)}))"
        )

    def click(self, selector):
        left, top, width, height = self.box(selector)
        for kind in ("mousePressed", "mouseReleased"):
            self._mouse(kind, left + width / 2, top + height / 2)

    def draw(self, selector, strokes, touch=False):
        """Draw strokes, lists of (x, y) from 0 to 1, with the mouse or a finger."""
        left, top, width, height = self.box(selector)
        for stroke in strokes:
            points = [(left + x * width, top + y * height) for x, y in stroke]
            for number, (x, y) in enumerate(points):
                if touch:
                    kind = "touchMove" if number else "touchStart"
                    self.call("Input.dispatchTouchEvent", type=kind, touchPoints=[{"x": x, "y": y}])
                else:
                    self._mouse("mouseMoved" if number else "mousePressed", x, y)
            if touch:
                self.call("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
            else:
                self._mouse("mouseReleased", *points[-1])

    def _mouse(self, kind, x, y):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=1, clickCount=1)

    def press(self, *keys):
        for key in keys:
            text = {"text": " "} if key == " " else {"text": "\r"} if key == "Enter" else {}
            code = {" ": 32, "Enter": 13, "Tab": 9, "Delete": 46}.get(key, 0)
            self.call("Input.dispatchKeyEvent", type="keyDown", key=key, windowsVirtualKeyCode=code, **text)
            self.call("Input.dispatchKeyEvent", type="keyUp", key=key, windowsVirtualKeyCode=code)

    def give_file(self, selector, path):
        """Choose a file in an input."""
        found = self.call("Runtime.evaluate", expression=f"document.querySelector({json.dumps(selector)})")
        self.call("DOM.setFileInputFiles", files=[str(path)], objectId=found["result"]["objectId"])

    def screenshot(self, path, whole=True):
        """Save what is on the screen, or the whole page, as a PNG."""
        shown = self.call("Page.captureScreenshot", captureBeyondViewport=whole)
        Path(path).write_bytes(base64.b64decode(shown["data"]))


def _first_line(path):
    return path.read_text().split("\n")[0] if path.is_file() else None


def _wait(until, seconds=20):
    deadline = time.monotonic() + seconds
    while not (result := until()):
        assert time.monotonic() < deadline, "not within the time"
        time.sleep(0.02)
    return result
