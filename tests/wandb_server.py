"""A stand-in for wandb's server, on this machine: it takes what a run sends, until it is told to fall silent."""

import gzip
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class WandbServer:
    """Answers wandb's client as far as a run needs it.

    Attributes:
        url: where it listens.
        rows: the history of each run, by its id: what the dashboard would show.
        summary: the summary of each run, by its id.
        views: workspaces that were saved.
    """

    def __init__(self):
        self.rows: dict[str, list[dict]] = {}
        self.summary: dict[str, dict] = {}
        self.views: list[dict] = []
        self.refuses = False  # 403 to all
        self._answering = threading.Event()
        self._answering.set()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._http.handle_error = lambda *_: None  # a client that has gone
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        threading.Thread(target=self._http.serve_forever, daemon=True).start()

    def fall_silent(self) -> None:
        """Take connections and never answer."""
        self._answering.clear()

    def answer_again(self) -> None:
        self._answering.set()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                server._answering.wait()
                answer = json.dumps(server._answer(self.path, body)).encode()
                self.send_response(403 if server.refuses else 200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            do_GET = do_PUT = do_POST

            def log_message(self, *_):
                pass

        return Handler

    def _answer(self, path: str, body: bytes) -> dict:
        if path.endswith("/file_stream"):
            self._take(path.split("/")[-2], json.loads(body).get("files") or {})
        if path != "/graphql":
            return {}
        request = json.loads(body)
        name = re.search(r"(query|mutation)\s+(\w+)", request["query"])
        return {"data": self._data(name and name[2], request.get("variables") or {})}

    def _take(self, run: str, files: dict) -> None:
        for name, part in files.items():
            if name == "wandb-history.jsonl":
                rows = self.rows.setdefault(run, [])
                rows[part["offset"] :] = map(json.loads, part["content"])
            elif name == "wandb-summary.json":
                self.summary[run] = json.loads(part["content"][-1])

    def _data(self, operation: str, variables: dict) -> dict:
        run = variables.get("name")
        bucket = {"id": run, "name": run, "displayName": run, "project": {"name": "p", "entity": {"name": "me"}}}
        if operation == "Viewer":
            return {"viewer": {"id": "u", "entity": "me", "username": "me", "flags": "{}", "teams": {"edges": []}}}
        if operation == "UpsertBucket":
            new = run not in self.rows
            self.rows.setdefault(run, [])
            return {"upsertBucket": {"bucket": bucket, "inserted": new}}
        if operation == "RunResumeStatus" and run in self.rows:
            rows = self.rows[run]
            return {"model": {"id": "p", "name": "p", "entity": {"name": "me"}, "bucket": bucket | {
                "summaryMetrics": json.dumps(self.summary.get(run, {})), "historyLineCount": len(rows),
                "historyTail": json.dumps([json.dumps(row) for row in rows[-1:]]), "eventsTail": "[]",
                "eventsLineCount": 0, "logLineCount": 0, "config": "{}", "tags": [], "wandbConfig": '{"t": 1}',
            }}}  # fmt: skip
        if operation == "UpsertView2":
            self.views.append(variables)
            return {"upsertView": {"view": {"id": "1", "name": "abcd"}, "inserted": True}}
        if operation == "CreateRunFiles":
            files = [{"name": name, "uploadUrl": f"{self.url}/{name}"} for name in variables["files"]]
            return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}
        return {"model": {"bucket": None}}
