"""Decoding in a child process: the same pixels, a time limit that ends it, nothing left behind."""

import gc
import os
import signal
import subprocess
import sys
import textwrap
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from convscope.dataset import forward_batches as passing
from convscope.dataset.survey import open_survey, survey
from convscope.errors import DecoderStartError, ImageError
from convscope.images import decoding_process as module
from convscope.images.decode import decode_file
from convscope.images.decoding_process import Decoder
from convscope.images.read import read, sample
from convscope.images.resize import Fit
from tests.images.test_decode import blocks, noise, saved, with_scans

FIT = Fit(20, 30, 40)


@pytest.fixture
def decoder():
    with Decoder(1, seconds=60) as found:
        yield found


@pytest.fixture(scope="module")
def slow():
    """A picture that takes minutes to decode."""
    jpeg = saved(Image.fromarray(blocks(8000)), "JPEG", progressive=True, quality=20)
    return with_scans(jpeg, 150)


def pid_of(decoder):
    return decoder._children[0]._process.pid


def is_running(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "TIFF", "WEBP"])
@pytest.mark.parametrize("fit", [None, FIT, Fit(9, 9, None, "squash", "bicubic")])
def test_the_same_pixels_from_a_path_and_from_bytes(decoder, kind, fit, tmp_path):
    data = saved(Image.fromarray(noise(61, 47)), kind)
    path = tmp_path / "pícture \n.bin"
    path.write_bytes(data)
    expected = decode_file(data, "p", fit).picture
    for file in (path, data):
        found = decoder.decode_file(file, "p", fit)
        assert expected.size == found.picture.size
        assert expected.tobytes() == found.picture.tobytes()


def test_read_takes_it(decoder):
    for source in ("sample:china", sample("china").read_bytes()):
        expected, found = read(source, 48), read(source, 48, decode=decoder.decode_file)
        assert np.array_equal(expected, found)


def test_a_name_that_is_no_text(decoder, tmp_path):
    path = os.fsencode(tmp_path) + b"/caf\xe9.png"
    with open(path, "wb") as file:  # noqa: PTH123 - a name in bytes
        file.write(saved(Image.new("RGB", (3, 2)), "PNG"))
    found = decoder.decode_file(Path(os.fsdecode(path)), "p")
    assert (3, 2) == found.picture.size


@pytest.mark.parametrize("data", [b"", b"text", b"%!PS-Adobe-3.0 EPSF-3.0\n{} loop"])
def test_errors_are_those_of_this_process(decoder, data):
    with pytest.raises(ImageError) as expected:
        decode_file(data, "p")
    with pytest.raises(ImageError) as found:
        decoder.decode_file(data, "p")
    assert str(expected.value) == str(found.value)


def test_what_takes_too_long_is_ended_and_the_next_is_decoded(slow):
    with Decoder(1, seconds=2) as decoder:
        decoder.decode_file(sample("china"), "p", FIT)
        before = pid_of(decoder)
        with pytest.raises(ImageError) as caught:
            decoder.decode_file(slow, "slow.jpg", FIT)
        assert str(caught.value) == (
            "slow.jpg takes longer than 2 seconds to decode and was given up; save it again as a "
            "plain JPEG or PNG."
        )
        assert not is_running(before)
        assert (30, 20) == decoder.decode_file(sample("china"), "p", FIT).picture.size


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="another watchdog")
def test_the_time_limit_holds_where_the_parent_blocks_its_signal(slow):
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGALRM])
    try:
        with Decoder(1, seconds=0.3) as decoder, pytest.raises(ImageError, match="takes longer"):
            decoder.decode_file(slow, "slow.jpg")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def test_nothing_is_imported_from_the_current_folder(tmp_path, monkeypatch):
    """A notebook has it in its path, and it may be the folder of a stranger's photographs."""
    for name in ("json", "queue", "PIL", "numpy", "signal"):
        (tmp_path / f"{name}.py").write_text("open('ran', 'w').close()", "utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["", ".", *sys.path])
    with Decoder(1) as decoder:
        decoder.decode_file(sample("china"), "china")
    assert not Path("ran").exists()


def test_a_survey_lists_it_and_goes_on(slow, tmp_path, net, monkeypatch):
    monkeypatch.setattr(passing, "DECODE_SECONDS", 2)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "b.jpg").write_bytes(slow)
    for name in ("a.jpg", "c.jpg"):
        (tmp_path / "photos" / name).write_bytes(sample("flower").read_bytes())
    found = survey(net, tmp_path / "photos", out=tmp_path / "out", layers="conv:1")
    assert 2 == found.count
    assert ["b.jpg"] == list(found.skipped)
    assert "takes longer than 2 seconds to decode" in found.skipped["b.jpg"]


def test_a_survey_says_what_it_read_at_a_reduced_size(tmp_path, net, monkeypatch):
    monkeypatch.setattr(passing, "Decoder", partial(Decoder, max_bytes=200_000))
    (tmp_path / "photos").mkdir()
    for name, side in (("a.jpg", 100), ("b.jpg", 400)):
        picture = Image.fromarray(blocks(side))
        (tmp_path / "photos" / name).write_bytes(saved(picture, "JPEG"))
    survey(net, tmp_path / "photos", out=tmp_path / "out", layers="conv:1")
    found = open_survey(tmp_path / "out")
    assert ["b.jpg"] == list(found.reduced)
    assert "400 by 400 pixels; to save memory it was decoded at half" in found.reduced["b.jpg"]
    assert "decoded at half" in (tmp_path / "out" / "summary.json").read_text("utf-8")


def test_a_child_that_somebody_ends_is_started_again(decoder):
    for _ in range(3):
        assert (30, 20) == decoder.decode_file(sample("china"), "p", FIT).picture.size
        os.kill(pid_of(decoder), signal.SIGKILL)


def test_a_file_that_crashes_the_child_twice_is_refused(decoder, monkeypatch):
    crash = "import convscope.images.decoding_process as d; d.decode_file = lambda *_, **__: os.abort(); serve = d.serve; serve("
    monkeypatch.setattr(module, "_START", module._START.replace("serve(", crash))
    with pytest.raises(ImageError, match=r"^p makes the decoder crash \(exit code -6\); it is"):
        decoder.decode_file(b"x", "p")


def test_a_child_that_cannot_be_started_is_an_error_not_a_bad_photograph(decoder, monkeypatch):
    monkeypatch.setattr(module, "_START", "raise SystemExit(7)")
    with pytest.raises(DecoderStartError, match=r"cannot be started .* \(it ended with code 7\)"):
        decoder.decode_file(b"x", "p")


def test_many_threads_share_one(tmp_path):
    files = [tmp_path / f"{k}.png" for k in range(40)]
    for k, file in enumerate(files):
        Image.fromarray(noise(30, 31, seed=k)).save(file)
    with Decoder(2) as decoder, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda file: decoder.decode_file(file, "p", FIT), files))
    for file, one in zip(files, found, strict=True):
        assert decode_file(file, "p", FIT).picture.tobytes() == one.picture.tobytes()


def test_children_end_with_their_decoder():
    decoder = Decoder(1)
    decoder.decode_file(sample("china"), "p", FIT)
    pid = pid_of(decoder)
    del decoder
    gc.collect()
    assert not is_running(pid)


def test_closed_while_it_decodes(slow):
    decoder = Decoder(1, seconds=600)
    decoder.decode_file(sample("china"), "p", FIT)
    with ThreadPoolExecutor(2) as pool:
        futures = [pool.submit(decoder.decode_file, slow, "p", FIT) for _ in range(2)]
        decoder.close()
        for future in futures:
            with pytest.raises(ImageError, match="was not decoded: the decoder was closed"):
                future.result()
    assert decoder._children[0]._process is None


ORPHAN = """
    import os, signal, sys, threading
    from pathlib import Path
    from convscope.images.decoding_process import Decoder
    decoder = Decoder(1, seconds=2)
    decoder.decode_file(Path(sys.argv[1]), "p")
    print(decoder._children[0]._process.pid, flush=True)
    threading.Thread(target=decoder.decode_file, args=(Path(sys.argv[2]), "p"), daemon=True).start()
    sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into Linux's /proc")
def test_no_child_outlives_a_parent_that_was_killed(slow, tmp_path):
    """A child that is stuck in a file ends with its watchdog."""
    file = tmp_path / "slow.jpg"
    file.write_bytes(slow)
    command = [sys.executable, "-c", textwrap.dedent(ORPHAN), str(sample("china")), str(file)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes) as parent:
        pid = int(parent.stdout.readline())
        parent.kill()
    while True:
        try:
            state = (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError):
            break
        if state == "Z":  # nobody here waits for it
            break


def test_ctrl_c_in_a_terminal_loses_no_photograph(decoder):
    """The terminal sends it to the whole group of processes; the child is in none of ours."""
    decoder.decode_file(sample("china"), "p", FIT)
    assert os.getpgid(pid_of(decoder)) != os.getpgid(0)
