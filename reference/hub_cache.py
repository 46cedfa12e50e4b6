"""Checks that the program and huggingface_hub find each other's files in the hub's cache.

    python reference/hub_cache.py target/release/anomaly-score

A server on this machine plays the hub, with the headers and the redirect of files in its large-file storage (under
another name of this machine). Prints one line a check; exits with status 1 at the first that fails. Needs huggingface_hub.
"""

import hashlib
import http.server
import os
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

CONTENTS = (Path(__file__).parent.parent / "fixtures" / "weights" / "plain.safetensors").read_bytes()
SHA256 = hashlib.sha256(CONTENTS).hexdigest()
COMMIT = "0123456789abcdef0123456789abcdef01234567"
REPO, FILE, BACKBONE = "facebook/dinov2-small", "model.safetensors", "dinov2-vits14"


class Hub(http.server.BaseHTTPRequestHandler):
    """HEAD and GET of one file: described and redirected under `resolve`, sent under `storage`."""

    requests: list[str] = []

    def do_HEAD(self) -> None:
        self.requests.append(f"{self.command} {self.path}")
        if "/resolve/" in self.path:
            self.send_response(302)
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("X-Linked-Etag", f'"{SHA256}"')
            self.send_header("X-Linked-Size", str(len(CONTENTS)))
            self.send_header("Location", f"http://localhost:{self.server.server_address[1]}/storage/{SHA256}")
            self.send_header("Content-Length", "0")
        else:
            self.send_response(200)
            self.send_header("ETag", f'"{SHA256}"')
            self.send_header("Content-Length", str(len(CONTENTS)))
        self.end_headers()

    def do_GET(self) -> None:
        self.do_HEAD()
        if "/resolve/" not in self.path:
            self.wfile.write(CONTENTS)

    def log_message(self, *_: object) -> None:
        pass


def check(what: str, is_so: bool) -> None:
    print(("ok    " if is_so else "FAILED"), what)
    if not is_so:
        sys.exit(1)


def python(code: str, env: dict[str, str]) -> str:
    """What a Python program prints in that environment; constants of huggingface_hub are read when it is imported."""
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else f"failed: {done.stderr}"


def main() -> None:
    program = Path(sys.argv[1]).resolve()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = {k: v for k, v in os.environ.items() if not k.startswith(("HF_", "HUGGING", "TRANSFORMERS"))}
    base["HF_ENDPOINT"] = f"http://127.0.0.1:{server.server_address[1]}"
    base["HF_HUB_DISABLE_XET"] = "1"
    download = f"import huggingface_hub as h; print(h.hf_hub_download('{REPO}', '{FILE}'))"

    with tempfile.TemporaryDirectory() as home:
        env = base | {"HF_HOME": home}
        done = subprocess.run([program, "backbones", "fetch", BACKBONE], env=env, capture_output=True, text=True)
        check("the program fetches", done.returncode == 0 and SHA256 in done.stdout)
        asked = len(Hub.requests)
        path = python(download, env | {"HF_HUB_OFFLINE": "1"})
        check("huggingface_hub finds it offline", Path(path).is_file() and Path(path).read_bytes() == CONTENTS)
        check("and at the place that the program printed", path in done.stdout)
        online = python(download, env)
        check("and online, without fetching it again", online == path and not any("GET /storage" in r for r in Hub.requests[asked:]))
        scan = "import huggingface_hub as h; s = h.scan_cache_dir(); print(len(s.warnings), [(r.repo_id, r.size_on_disk, "
        scan += "[(v.commit_hash, sorted(v.refs), len(v.files)) for v in r.revisions]) for r in s.repos])"
        found = python(scan, env)
        check(f"its scan of the cache has nothing to warn of: {found}",
              found == f"0 [('{REPO}', {len(CONTENTS)}, [('{COMMIT}', ['main'], 1)])]")

    with tempfile.TemporaryDirectory() as home:
        env = base | {"HF_HOME": home}
        path = python(download, env)
        check("huggingface_hub fetches", Path(path).is_file())
        asked = len(Hub.requests)
        done = subprocess.run([program, "backbones", "fetch", BACKBONE], env=env, capture_output=True, text=True)
        check("the program finds it without asking", path in done.stdout and len(Hub.requests) == asked)
        check("and says nothing of fetching", done.stderr == "")


if __name__ == "__main__":
    main()
