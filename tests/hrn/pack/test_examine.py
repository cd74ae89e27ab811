"""What `doctor --pack` says of each file of a pack."""

import json

import pytest
import torch

from hrn_opt.cli import main
from hrn_opt.hrn.pack import published
from hrn_opt.hrn.pack.checkpoint import load_checkpoint
from hrn_opt.hrn.pack.examine import PURPOSES, examine, report_text


def by_path(folder):
    return {finding.path: finding for finding in examine(folder)}


def test_every_file_has_a_purpose():
    assert set(PURPOSES) == set(published.FILES)


def test_a_whole_pack_has_no_problem(published_pack, capsys):
    findings = by_path(published_pack)
    assert set(findings) == set(published.FILES) and not any(finding.problem for finding in findings.values())
    weights = findings[published.WEIGHTS]
    assert all(name in weights.found for name in ("recon has", "mid has", "high has", "alpha"))
    assert weights.is_known is None and findings[published.S3FD_WEIGHTS].is_known is False  # it is made up
    assert main(["doctor", "--pack", str(published_pack)]) == 0
    printed = capsys.readouterr().out
    assert printed.endswith("HRN can run with this pack.\n") and "NOT the file listed in public" in printed


@pytest.mark.parametrize(
    ("path", "usable"),
    [
        (published.WEIGHTS, False),
        (published.UV_COORDINATES, False),
        (published.MASK_GRAPH, True),
        (published.S3FD_WEIGHTS, True),
    ],
)
def test_a_missing_file_is_told_with_what_happens(linked_pack, capsys, path, usable):
    (linked_pack / path).unlink()
    assert by_path(linked_pack)[path].size_bytes is None
    assert main(["doctor", "--pack", str(linked_pack)]) == (0 if usable else 2)
    printed = capsys.readouterr().out
    assert f"missing  {path}" in printed and PURPOSES[path][1] in printed


@pytest.mark.parametrize("path", [path for path in published.FILES if path != published.TEMPLATE_MESH])
def test_a_damaged_file_alone_is_refused(linked_pack, path):
    content = (linked_pack / path).read_bytes()
    (linked_pack / path).unlink()
    (linked_pack / path).write_bytes(content[: len(content) // 3])
    problems = [finding.path for finding in examine(linked_pack) if finding.problem]
    assert problems == [path]


def test_another_revision_says_what_it_has_instead(linked_pack):
    checkpoint = load_checkpoint(linked_pack / published.WEIGHTS)
    (linked_pack / published.WEIGHTS).unlink()
    torch.save({"net_recon": checkpoint["net_recon"], "epoch": 3}, linked_pack / published.WEIGHTS)
    (problem,) = [finding.problem for finding in examine(linked_pack) if finding.problem]
    assert "another revision" in problem and "'epoch', 'net_recon'" in problem


def test_for_programs(published_pack, capsys):
    main(["doctor", "--pack", str(published_pack), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert told["usable"] and len(told["files"]) == len(published.FILES) and len(told["files"][0]["sha256"]) == 64


def test_a_folder_that_is_no_pack(tmp_path):
    findings = examine(tmp_path)
    assert all(finding.size_bytes is None for finding in findings)
    assert report_text(findings).endswith("HRN cannot run with this pack.")
