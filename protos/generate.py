"""Regenerates everything under generated/ from protos/, and unpacks the third-party protos that buf needs.

Run by `make generate`. Running it twice leaves no difference.
"""

from __future__ import annotations

import importlib.resources
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PROTOS = ROOT / "protos"
THIRD_PARTY = PROTOS / ".third_party"
GENERATED = ROOT / "generated"
GOOGLE_FILES = (
    "google/api/annotations.proto",
    "google/api/http.proto",
    "google/api/httpbody.proto",
    "google/rpc/error_details.proto",
    "google/rpc/status.proto",
)
# protovalidate's 2.x packages carry no .proto file; the rules of this source package work with the 2.x engine.
VALIDATE_SOURCE = "protovalidate==1.2.0 --hash=sha256:4cb9a5065f32abc9baf2cf25c5bd09a139f7dffb7b8692f636a8e3e6883bb9a2"
WEB_PLUGIN = ROOT / "clients/web/live/node_modules/.bin/protoc-gen-es"
VALIDATE_MEMBER = "protovalidate-1.2.0/upstream/proto/buf/validate/validate.proto"


def run(*command: str) -> None:
    """Runs a command of this environment and stops the whole run when it fails."""
    subprocess.run(command, check=True, cwd=ROOT)


def unpack_third_party() -> None:
    """Lays google/* and buf/validate into a module that git ignores; skips the download when it is there."""
    for name in GOOGLE_FILES:
        target = THIRD_PARTY / name
        target.parent.mkdir(parents=True, exist_ok=True)
        package, _, file = name.replace("/", ".", 1).partition("/")
        target.write_bytes(importlib.resources.files(package).joinpath(file).read_bytes())
    validate = THIRD_PARTY / "buf/validate/validate.proto"
    if not validate.exists():
        validate.parent.mkdir(parents=True, exist_ok=True)
        validate.write_bytes(download_validate_proto())


def download_validate_proto() -> bytes:
    """Fetches the pinned source package, checked by its hash, and returns validate.proto."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder) / "requirements.txt"
        requirements.write_text(VALIDATE_SOURCE + "\n")
        run(
            *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", "protovalidate"),
            *("--require-hashes", "--requirement", str(requirements), "--dest", folder),
        )
        with tarfile.open(next(Path(folder).glob("*.tar.gz"))) as archive:
            member = archive.extractfile(VALIDATE_MEMBER)
            if member is None:
                raise SystemExit(f"{VALIDATE_MEMBER} is not in the source package of protovalidate")
            return member.read()


def protoc(*arguments: str) -> None:
    """Runs the pinned protoc over our include paths."""
    wellknown = str(importlib.resources.files("grpc_tools") / "_proto")
    run(sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTOS}", f"-I{THIRD_PARTY}", f"-I{wellknown}", *arguments)


def own_files() -> list[str]:
    """Our .proto files as protoc names them, sorted."""
    return sorted(str(path.relative_to(PROTOS)) for path in PROTOS.glob("switchboard/**/*.proto"))


def generate_python() -> None:
    """google.protobuf messages, grpcio stubs, and their types."""
    validate = "buf/validate/validate.proto"
    out = str(GENERATED)
    protoc(f"--python_out={out}", f"--mypy_out=quiet:{out}", *own_files(), validate)
    protoc(f"--grpc_python_out={out}", f"--mypy_grpc_out=quiet:{out}", *services())
    for package in ("switchboard", "switchboard/v1", "buf", "buf/validate"):
        (GENERATED / package / "__init__.py").touch()
        (GENERATED / package / "py.typed").touch()


def services() -> list[str]:
    """The files that define a service."""
    return [name for name in own_files() if name.endswith("_service.proto")]


def generate_client() -> None:
    """betterproto2 messages for the Python client; the client calls through grpcio, so no stubs are made."""
    out = GENERATED / "switchboard_client"
    out.mkdir(parents=True, exist_ok=True)
    protoc(
        f"--python_betterproto2_out={out}",
        "--python_betterproto2_opt=client_generation=none",
        *own_files(),
        "google/api/httpbody.proto",
        "google/rpc/error_details.proto",
        "google/rpc/status.proto",
    )
    (out / "py.typed").touch()


def generate_web() -> None:
    """TypeScript for the web page. Without Node and its packages the committed files stay as they are."""
    if not WEB_PLUGIN.exists():
        print("generated/web is left as it is: Node or the page's packages are missing")
        return
    out = GENERATED / "web"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    files = (*own_files(), "buf/validate/validate.proto", *GOOGLE_FILES)
    protoc(f"--plugin=protoc-gen-es={WEB_PLUGIN}", f"--es_out={out}", "--es_opt=target=ts", *files)


def generate_descriptors() -> None:
    """The self-contained set for Envoy and readers, and a copy inside the package, from which the command line is made.

    With source info, so that comments become help.
    """
    target = GENERATED / "descriptor.binpb"
    protoc(
        f"--descriptor_set_out={target}",
        "--include_imports",
        "--include_source_info",
        *own_files(),
        "google/rpc/status.proto",
        "google/rpc/error_details.proto",
    )
    shutil.copyfile(target, GENERATED / "switchboard" / "descriptor.binpb")


def write_baseline() -> None:
    """Records the contract as released; `buf breaking` compares with it."""
    unpack_third_party()
    protoc(f"--descriptor_set_out={PROTOS / 'baseline.binpb'}", "--include_imports", *own_files())


def main() -> None:
    """Unpacks, clears and generates."""
    if "--baseline" in sys.argv[1:]:
        write_baseline()
        return
    unpack_third_party()
    for name in ("switchboard", "switchboard_client", "buf"):
        shutil.rmtree(GENERATED / name, ignore_errors=True)
    GENERATED.mkdir(exist_ok=True)
    generate_python()
    generate_client()
    generate_web()
    generate_descriptors()


if __name__ == "__main__":
    main()
