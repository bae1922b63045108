"""Free memory: what can be had, not what lies idle."""

import psutil
import pytest
import torch

from convscope.network import memory


@pytest.fixture
def cgroup(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CGROUP", tmp_path)
    (tmp_path / "memory.current").write_text("700\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 150\nfile 400\n")
    return tmp_path


def test_the_cache_of_files_counts_as_free(monkeypatch, tmp_path):
    machine = psutil.virtual_memory()._replace(available=9_000, free=1_000)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    monkeypatch.setattr(memory, "_CGROUP", tmp_path / "none")
    assert memory.free_bytes(torch.device("cpu")) == 9_000


def test_a_container_has_what_its_limit_leaves(cgroup):
    (cgroup / "memory.max").write_text("1000\n")
    assert memory.free_bytes(torch.device("cpu")) == 1000 - 700 + 150


def test_a_container_above_its_limit_has_nothing(cgroup):
    (cgroup / "memory.max").write_text("100\n")
    assert memory.free_bytes(torch.device("cpu")) == 0


def test_a_container_without_a_limit_has_the_machine(cgroup, monkeypatch):
    machine = psutil.virtual_memory()
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    (cgroup / "memory.max").write_text("max\n")
    assert memory.free_bytes(torch.device("cpu")) == machine.available
