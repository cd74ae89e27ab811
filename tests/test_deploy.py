"""What is deployed fits the program: files that go into the image, the compose file, and the cluster's description."""

import re
import subprocess
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
PACK_FOLDER = "/home/hrn/.cache/hrn_opt"


def goes_into_the_image(path: str) -> bool:
    """As builders read .dockerignore: the last line that fits decides, and a folder's line holds for what is in it."""
    kept = True
    for line in (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.lstrip("!").replace("**/", "*")  # fnmatch's * crosses folders
        parts = path.split("/")
        if any(fnmatchcase("/".join(parts[: count + 1]), pattern) for count in range(len(parts))):
            kept = line.startswith("!")
    return kept


def test_every_file_of_the_package_goes_into_the_image():
    listed = subprocess.run(["git", "ls-files", "-z", "hrn_opt"], cwd=ROOT, capture_output=True, text=True)
    files = listed.stdout.split("\0")[:-1] or [
        str(path.relative_to(ROOT)) for path in (ROOT / "hrn_opt").rglob("*.py")
    ]  # an archive without git
    assert files and [path for path in files if not goes_into_the_image(path)] == []


@pytest.mark.parametrize(
    "path",
    ["me.jpg", ".env", "users.txt", "examples/me.jpg", "hrn_opt/.env", "hrn_opt/web/me.jpg", "hrn_opt/hrn/find/x.heic"],
)
def test_private_files_stay_out(path):
    assert not goes_into_the_image(path)


def test_the_same_folder_and_port_everywhere():
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert f"HRN_OPT_HOME={PACK_FOLDER}" in dockerfile and "EXPOSE 8080" in dockerfile
    for service in yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"].values():
        assert service["read_only"] and service["cap_drop"] == ["ALL"] and service["stop_grace_period"] == "60s"
        assert service["volumes"] == [f"pack:{PACK_FOLDER}"] and service["ports"] == ["127.0.0.1:8080:8080"]
    deployment, _ = yaml.safe_load_all((ROOT / "deploy/kubernetes.yaml").read_text(encoding="utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    (page,) = pod["containers"]
    assert page["ports"][0]["containerPort"] == 8080 and not pod["enableServiceLinks"]
    assert PACK_FOLDER in [mount["mountPath"] for mount in page["volumeMounts"]]
    assert page["livenessProbe"]["httpGet"]["path"] == "/healthz"


@pytest.mark.parametrize("path", ["compose.yaml", "deploy/hrn-opt.service", "deploy/kubernetes.yaml"])
def test_they_name_settings_that_exist(path):
    readers = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "hrn_opt").rglob("*.py"))
    for name in set(re.findall(r"HRN_OPT_[A-Z_]+", (ROOT / path).read_text(encoding="utf-8"))):
        flag = f'"{name.removeprefix("HRN_OPT_").lower()}"'
        assert f'"{name}"' in readers or flag in readers, name
