"""A user's mistakes on the command line end in one message, exit code 1, and no traceback."""

import importlib
import json
import os
import re
import resource
import subprocess
import sys
import types
from pathlib import Path

import jax
import pytest

from configs import default
from hybridhash_jax import __main__, modes
from hybridhash_jax.__main__ import VERBS
from hybridhash_jax.workdir.config import load_config
from input_pipeline import messages, signals
from input_pipeline.commands import run_command
from input_pipeline.errors import DataError
from input_pipeline.messages import NO_HOME
from tests.runs.main_process import run_main
from tests.runs.small_run import CONFIG, ENVIRONMENT, MAIN, ROOT, flags


def refused(done: subprocess.CompletedProcess) -> str:
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "error:" in done.stderr
    return done.stderr


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--config.optimizer.learning_rat=1"], ["Did you mean optimizer.learning_rate"]),
        (["--config.optimiser.name=sgd"], ["there is no such field", "optimizer.name"]),
        (["--config.init.from=w.pth"], ["--config.init.from is now --config.init.weights"]),
        (["--config.data.decoder=fast"], ["--config.data.decoder is no longer there"]),
        (["--config.batch_size=many"], ["batch_size=many; accepted: a whole number"]),
        (["--config.num_epochs=0.5"], ["num_epochs=0.5; accepted: a whole number"]),
        (["--config.num_epochs="], ["num_epochs=; accepted: a whole number"]),
        (["--config.evaluation.top_k=True"], ["evaluation.top_k=True; accepted: a whole number"]),
        (["--config.evaluation.report=nein"], ["report=nein; accepted: true or false"]),
        (["--config.optimizer.clip_norm=1,5"], ["clip_norm=1,5; accepted: a number, such as 0.5"]),
        (["--config.seed=9223372036854775808"], ["seed", "at most 9223372036854775807"]),
        (["--config.lr=1"], ["Did you mean optimizer.learning_rate?"]),
        (["--config.epochs=1"], ["Did you mean num_epochs?"]),
        (["--config.optimizer=sgd"], ["is a group of fields", "optimizer.name"]),
        (["--batch_size=1"], ["--batch_size is no flag. Did you mean --config.batch_size"]),
        (["--num_epochs=1"], ["Did you mean --config.num_epochs?"]),
        (["--lr=1"], ["Did you mean --config.optimizer.learning_rate?"]),
        (["--method=csq"], ["Did you mean --config.method.name?"]),
        (["--resume=runs/x"], ["Did you mean --workdir?"]),
        (["--config.loss.pairs=all"], ["accepted: bank, batch"]),
        (["--config.loss.alpha=half"], ["loss.alpha='half'", "such as 6.4/bits"]),
        (["--config.loss.alpha=None"], ["loss.alpha=None", "such as 6.4/bits"]),
        (["--config.batch_size=0"], ["at least 1"]),
        (["--config.accumulation_steps=5"], ["use a multiple of 5, for example 60 or 65"]),
        (["--config.model.image_size=17"], ["multiple of 8, for example 16 or 24"]),
        (["--config.optimizer.weight_decay_exclude=('gamma',)"], ["matches no parameter"]),
        (["--config.optimizer.learning_rate_factors=gamma=0.1"], ["'gamma' matches no parameter"]),
        (["--config.optimizer.frozen=^norm|."], ["freezes every parameter"]),
        (
            ["--config.init.weights=w.pth", "--config.optimizer.frozen=^norm/,^patch_embed/"],
            ["--config.optimizer.frozen", "insert quotes around each"],
        ),
        (["--mode=test"], ["train", "evaluate"]),
        (
            ["--mode=compare", "--config.comparison.methods=lsh,hashnt"],
            ["comparison.methods", "Did you mean hashnet", "hybridhash", "itq"],
        ),
        (["--mode=compare", "--config.comparison.seeds=()"], ["comparison.seeds", "such as 0"]),
        (["--mode=compare", "--codes=x"], ["--codes needs --mode=evaluate"]),
        (["--worddir=x"], ["worddir"]),
        (["stray"], ["'stray' is no flag"]),
        (["--workdir=gs://bucket/w"], ["--workdir=gs://bucket/w is no folder", "gcsfuse"]),
        (["--workdir="], ["--workdir=FOLDER is empty (an unset variable?)"]),
        (["--workdir=/dev/null"], ["--workdir=/dev/null: /dev/null is a file; give a folder"]),
        (["--workdir=/dev/null/w"], ["/dev/null is a file; give a folder"]),
        (["--workdir=~nobody_of_this_name/w"], ["no home directory that ~ could mean"]),
        (["--compilation_cache=gs://b"], ["--compilation_cache=gs://b is no folder"]),
        (["--mode=evaluate", "--codes=gs://b"], ["--codes=gs://b is no folder"]),
        (["--num_processes=2"], ["--coordinator_address and --process_id missing"]),
        (
            ["--coordinator_address=h:1", "--num_processes=2", "--process_id=2"],
            ["--process_id=2", "numbered from 0"],
        ),
        (["--codes=x"], ["--codes needs --mode=evaluate"]),
        (
            ["--config=main.py"],
            ["the file of --config cannot be used: it needs a function get_config()", "digits.py"],
        ),
        (["--output=x"], ["--output needs --mode=evaluate"]),
        (["--checkpoint=4"], ["--checkpoint needs --mode=evaluate", "goes on from the newest"]),
        (["--config.init.weights="], ["the path of the weights is empty"]),
        (["--mode=evaluate", "--codes=x"], ["leave --config out"]),
        (["--top_k=5"], ["--config.evaluation.top_k"]),
        (["--config=configs/nothing.py"], ["configs/nothing.py", "configs/", "nuswide_21"]),
        (["--config=README.md"], ["takes a Python file", "README.md, line"]),
        (["--config=cifar"], ["--config=cifar: there is no such file", "Did you mean cifar10"]),
        (["--config.init.weights=/nowhere/w.pth"], ["/nowhere/w.pth"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_a_mistake_is_explained(tmp_path, arguments, parts):
    message = refused(run_main(CONFIG, f"--workdir={tmp_path / 'w'}", *arguments))
    for part in parts:
        assert part in message
    assert not (tmp_path / "w").exists()  # nothing was written for a run that cannot be


def own_file(folder: Path, *lines: str) -> Path:
    """A configuration of a user's own, made of a shipped one by these lines."""
    place = folder / "own.py"
    begin = ["from configs import digits", "def get_config():", "  c = digits.get_config()"]
    place.write_text("\n".join([*begin, *(f"  {line}" for line in lines)]) + "\n")
    return place


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("c.method.nam = 'csq'", ["own.py cannot be used", "method.nam: there is no such field. Did you mean method.name?"]),
        ("c.num_epoch = 50", ["num_epoch: there is no such field. Did you mean num_epochs"]),
        ("c.optimizer.lr = 3", ["Did you mean optimizer.learning_rate?"]),
        ("c.evaluation.topk = 5", ["Did you mean evaluation.top_k?"]),
        ("c.comparison.method = ('csq',)", ["Did you mean comparison.methods? Fields: comparison"]),
        ("c.comparison.seed = (0,)", ["Did you mean comparison.seeds? Fields: comparison"]),
        ("c.optimiser = type(c)({'name': 'adam'})", ["optimiser: there is no such field"]),
        ("c.init['from'] = 'w.pth'", ["init.from is now init.weights"]),
        ("c.data.decoder = 'fast'", ["data.decoder is no longer there"]),
        ("c.loss = None", ["loss is a group of fields; give one of them: loss.alpha"]),
        ("c.loss = 3", ["own.py, line 4: loss is a group of fields"]),
        ("c.loss = {'pairs': 'bank'}", ["loss.alpha, loss.batch_weight, loss.unseen: missing"]),
        ("c.method.name = None", ["method.name=None; accepted: a text"]),
        ("c.bits = 16", ["own.py, line 4: bits=16; accepted: values in brackets, such as (64,)"]),
        ("c.bits = '16'", ["own.py, line 4: bits='16'; accepted: values in brackets"]),
        ("c.bits = (True,)", ["bits=(True,)", "such as 32 or 16,32,64"]),
        ("c.num_epochs = '4'", ["own.py, line 4: num_epochs='4'; accepted: a whole number"]),
        ("c.data.query_per_class = 3.7", ["data.query_per_class=3.7; accepted: a whole number"]),
        ("c.optimizer.frozen = '^a'", ["optimizer.frozen='^a'; accepted: values in brackets, such as ('^a',)"]),
        ("c.bits = False", ["bits=False; accepted: values in brackets"]),
        ("c.data.name = 3", ["own.py, line 4: name=3; accepted: a text, in quotes"]),
        ("c.evaluation.top_k = True", ["evaluation.top_k=True; accepted: a whole number"]),
        ("c.optimizer.step_epochs = ('a',)", ["step_epochs=('a',)", "numbers of epochs above 0"]),
        ("c.lock().seeds = 3", ["own.py, line 4: seeds: there is no such field. Did you mean seed?"]),
        ("c.data.dir = __import__('pathlib').Path('/x')", ["own.py, line 4: dir: /x is a pathlib.PosixPath; accepted: a text"]),
        ("c.batch_size = {}['b']", ["own.py, line 4: KeyError: b"]),
        ("c.batch_size = c.model.dtyp", ["own.py, line 4: ", 'Did you mean "dtype"']),
        ("c.comparison = type(c)({**c.comparison.to_dict(), 'seeds': [-1]})", ["comparison.seeds=[-1]", "give one whole number"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_a_mistake_in_a_file_is_explained(tmp_path, line, parts):
    place = own_file(tmp_path, line, "return c")
    message = refused(run_main(f"--config={place}", f"--workdir={tmp_path / 'w'}"))
    for part in parts:
        assert part in message
    assert len(message) < 1500
    assert not (tmp_path / "w").exists()


def test_all_mistakes_in_a_file_are_told_at_once(tmp_path):
    place = own_file(tmp_path, "c.method.nam = 'csq'", "c.batch_size = True", "return c")
    message = refused(run_main(f"--config={place}", f"--workdir={tmp_path / 'w'}"))
    assert "method.nam: there is no" in message and "batch_size=True; accepted" in message


def test_a_file_whose_function_gives_nothing_is_told_so(tmp_path):
    message = refused(run_main(f"--config={own_file(tmp_path)}", f"--workdir={tmp_path / 'w'}"))
    assert message.startswith(
        f"error: {tmp_path / 'own.py'} cannot be used: its get_config() gives"
    )


@pytest.mark.parametrize("mode", ["train", "evaluate", "tune_batch", "compare"])
def test_no_mode_ignores_a_field_that_there_is_not(tmp_path, mode):
    place = own_file(tmp_path, "c.bits = (8, 16)", "c.evaluation.topk = 5", "return c")
    given = [f"--config={place}", f"--workdir={tmp_path / 'w'}", f"--mode={mode}"]
    assert "evaluation.topk: there is no such field" in refused(run_main(*given))


def test_a_field_that_there_is_not_stops_no_workdir_but_a_config_json_that_is_given(tmp_path):
    method = {**default.get_config().method.to_dict(), "nam": "csq"}
    workdir = saved_run(tmp_path, method=method)
    unknown = "--config.data.name=nothing"  # what is found wrong of a configuration that is read
    for given in ([], [f"--config={workdir}"]):
        assert "accepted: cifar10" in refused(run_main(f"--workdir={workdir}", *given, unknown))
    given = [f"--workdir={tmp_path / 'new'}", f"--config={workdir}/config.json"]
    assert "method.nam: there is no such field" in refused(run_main(*given))


MODES = {
    "hash": [],
    "classify": ["--config.task=classify", "--config.evaluation.selected_by=last"],
    "evaluate": ["--mode=evaluate"],
    "tune_batch": ["--mode=tune_batch"],
}
MODES["evaluate a classifier"] = MODES["evaluate"] + MODES["classify"]
OF_DEVICES = {
    "batch_size=12": "batch_size=12 cannot be split over 8 devices; use a multiple of 8",
    "accumulation_steps=3": "batch_size=128 cannot be cut into accumulation_steps=3 equal parts",
    "evaluation.batch_size=20": "evaluation.batch_size=20 cannot be split over 8 devices",
    "mesh.fsdp=3": "mesh.fsdp=3 cannot cover the 8 devices in use; accepted (data x fsdp",
    "mesh.data=3": "mesh.data=3 cannot cover the 8 devices in use; accepted (data x fsdp",
    "num_devices=9": "num_devices=9, but this machine shows 8 devices",
}


@pytest.mark.parametrize(
    ("mode", "given"),
    [
        *((mode, "mesh.fsdp=3") for mode in MODES),
        *(("hash", given) for given in OF_DEVICES if given != "mesh.fsdp=3"),
        *((mode, "batch_size=12") for mode in ("classify", "evaluate", "evaluate a classifier")),
        ("tune_batch", "evaluation.batch_size=20"),
    ],
)
def test_what_the_devices_cannot_divide_is_refused_before_data_are_fetched(tmp_path, mode, given):
    options = [
        "--config=configs/cifar10_32px.py",
        f"--workdir={tmp_path / 'w'}",
        f"--config.data.dir={tmp_path / 'images'}",
        "--config.data.download=false",  # images that are missing would be another error
        *MODES[mode],
        f"--config.{given}",
    ]
    message = refused(run_main(*options, devices=8))
    assert message.startswith(f"error: {OF_DEVICES[given]}")
    assert len(message.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_an_fsdp_axis_that_splits_no_parameter_is_refused(tmp_path):
    options = flags(num_devices=8, mesh__fsdp=8)
    done = run_main(CONFIG, f"--workdir={tmp_path / 'w'}", *options, devices=8)
    assert "mesh.fsdp=8 divides no axis of any parameter" in refused(done)
    assert not list(tmp_path.iterdir())


def test_missing_flags_are_named():
    assert "--workdir=FOLDER is missing" in refused(run_main())
    assert "--config=FILE is missing" in refused(run_main("--workdir=x"))


def test_absent_cifar10_says_which_file_goes_where(tmp_path):
    flags = [
        f"--workdir={tmp_path / 'w'}",
        "--config=configs/cifar10_32px.py",
        f"--config.data.dir={tmp_path / 'images'}",
        "--config.data.download=false",
    ]
    message = refused(run_main(*flags))
    assert "cifar-10-python.tar.gz" in message
    assert str(tmp_path / "images") in message


def test_help_explains_the_program():
    done = run_main("--help")
    assert done.returncode == 0
    for part in ("--mode=evaluate", "configs/default.py", "goes on where a run was stopped", "143"):
        assert part in done.stdout


HELP = [["--help"], ["-h"]]
MISTAKES = [
    [],
    ["--workdir=w"],
    ["--workdir=w", "--config=configs/nothing.py"],
    ["--workdir=w", "--config=digits", "--config.optimizer.learning_rat=1"],
    ["--workdir=w", "--config=digits", "--config.batch_size=many"],
    ["--workdir=w", "--config=digits", "--worddir=x"],
    ["--workdir=w", "--config=digits", "--mode=test"],
    ["--workdir=w", "--config=digits", "--codes=x"],
    ["--workdir=w", "--config=digits", "--mode=evaluate", "--codes=x"],
    ["--workdir=w", "--config=digits", "--top_k=5"],
    ["--workdir=gs://bucket/w", "--config=digits"],
    ["--workdir=", "--config=digits"],
    ["--workdir=w", "--config=w/config.json"],
    ["--workdir=w", "--config=digits", "--lr=1"],
]
# Runs main.py and prints which of the large packages it has imported.
SPY = """
import atexit, runpy, sys
large = {"jax", "flax", "orbax", "grain", "numba", "matplotlib", "numpy"}
atexit.register(lambda: print("imported:", sorted(large & sys.modules.keys())))
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.parametrize("arguments", HELP + MISTAKES, ids=" ".join)
def test_help_and_mistakes_are_answered_without_large_imports(tmp_path, arguments):
    command = [sys.executable, "-c", SPY, MAIN[1], *arguments]
    found = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=found, capture_output=True, text=True)
    assert done.returncode == (0 if arguments in HELP else 1), done.stderr
    assert done.stderr.startswith("" if arguments in HELP else "error: ")
    assert done.stdout.splitlines()[-1] == "imported: []"


def test_help_takes_little_processor_time():
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([*MAIN[:2], "--help"], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert spent <= 0.5


@pytest.mark.slow
def test_a_started_run_imports_matplotlib_only_to_draw():
    code = "import sys, hybridhash_jax.modes; print('matplotlib' in sys.modules)"
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, env=ENVIRONMENT, capture_output=True, text=True)
    assert done.stdout == "False\n", done.stderr


def run_verb(*arguments: str, folder: os.PathLike[str] | str = ROOT):
    found = ENVIRONMENT | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "hybridhash_jax", *arguments]
    return subprocess.run(command, cwd=folder, env=found, capture_output=True, text=True)


def test_the_console_command_lists_its_verbs():
    done = run_verb("--help")
    assert done.returncode == 0
    for verb in ("train", "check", "make-splits", "pack", "convert-weights"):
        assert f"hybridhash {verb} --" in done.stdout or f"hybridhash {verb} folder" in done.stdout
    assert run_verb().stdout == done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["search", "--help"]])
def test_help_may_be_read_in_part(arguments):
    reader, writer = os.pipe()
    os.close(reader)  # as `| head` does when it has its lines
    command = [sys.executable, "-m", "hybridhash_jax", *arguments]
    done = subprocess.run(command, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_unknown_verb_is_refused_with_the_nearest():
    done = run_verb("trian")
    assert done.returncode == 2
    assert "'trian' is no verb. Did you mean train?" in done.stderr


@pytest.mark.parametrize(
    ("verb", "meant"),
    [("evaluate", "train --mode=evaluate"), ("compare", "train --mode=compare")],
)
def test_a_mode_taken_for_a_verb_is_named(verb, meant):
    assert f"Did you mean {meant}?" in run_verb(verb).stderr


def test_the_version_is_told():
    done = run_verb("--version")
    assert re.fullmatch(r"hybridhash_jax \d+\.\d+\.\d+\n", done.stdout), done


@pytest.mark.parametrize(
    "command",
    [
        ("search", "--index=HOME", "a.jpg"),
        ("index", "info", "HOME"),
        ("duplicates", "HOME"),
        ("export", "--index=HOME", "--to=parquet", "--output=x.parquet"),
        ("encode", "HOME", "--index=x"),
        ("encode", "pictures", "--index=HOME"),
        ("export-model", "--workdir=HOME", "--out=x.stablehlo"),
        ("export-model", "--workdir=w", "--out=HOME"),
        ("serve", "--index=HOME"),
        ("make-splits", "voc2012", "--raw=HOME", "--out=x"),
        ("check", "--dir=HOME"),
        ("pack", "--name=cifar10", "--dir=HOME", "--out=x"),
        ("convert-weights", "--from=HOME", "--to=x.flax"),
        ("convert-weights", "--from=x.flax", "--to=HOME"),
    ],
    ids=" ".join,
)
def test_no_verb_meets_a_home_that_does_not_exist_with_a_traceback(
    command, tmp_path, monkeypatch, capsys
):
    verb, *arguments = [text.replace("HOME", "~nobody_of_this_name/x") for text in command]
    monkeypatch.chdir(tmp_path)
    try:
        code = importlib.import_module(VERBS[verb].module).main(arguments)
    except SystemExit as exit:
        code = exit.code
    told = capsys.readouterr().err
    assert code in (1, 2) and told.startswith("error: ")
    assert NO_HOME in told or "~nobody_of_this_name/x" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "command",
    [
        ("export-model", "--workdir=", "--out=x.stablehlo"),
        ("serve", "--index="),
        ("make-splits", "voc2012", "--raw=", "--out=x"),
        ("convert-weights", "--from=x.flax", "--to="),
    ],
    ids=" ".join,
)
def test_an_empty_path_is_refused(command, tmp_path, monkeypatch, capsys):
    verb, *arguments = command
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(VERBS[verb].module).main(arguments)
    assert "is empty (an unset variable?)" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("verb", ["check", "make-splits", "pack", "convert-weights"])
def test_a_verb_is_the_command_of_its_module(verb):
    module = "hybridhash_jax.tools" if verb == "convert-weights" else "input_pipeline"
    code = f"import sys; from {module}.{verb.replace('-', '_')} import main; main(['--help'])"
    expected = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert expected.returncode == 0
    helped = run_verb(verb, "--help").stdout
    assert f"usage: hybridhash {verb} " in helped
    assert "python -m" not in helped
    options = [line.split()[0] for line in expected.stdout.splitlines() if line.startswith("  --")]
    assert [line.split()[0] for line in helped.splitlines() if line.startswith("  --")] == options


def saved_run(folder: Path, name: str = "w", **fields: object) -> Path:
    """A workdir that holds a configuration and nothing else."""
    config = json.loads(json.dumps(default.get_config().to_dict())) | fields
    workdir = folder / name
    workdir.mkdir(parents=True)
    (workdir / "config.json").write_text(json.dumps(config))
    return workdir


def test_a_workdirs_own_configuration_is_read_and_overrides_apply_to_it(tmp_path):
    workdir = saved_run(tmp_path, seed=5)
    for given in ([], [f"--config={workdir}"], [f"--config={workdir}/config.json"]):
        message = refused(run_main(f"--workdir={workdir}", *given, "--config.data.name=nothing"))
        assert "data.name='nothing' (data set); accepted" in message
    # The other configuration is compared with the workdir's own.
    message = refused(run_main(f"--workdir={workdir}", "--config.seed=6"))
    assert "seed: 5 there, 6 here" in message


def test_a_sweeps_workdir_gives_all_its_lengths(tmp_path):
    for bits in (64, 16):
        saved_run(tmp_path / "sweep", f"{bits}bits", bits=[bits])
    assert load_config(tmp_path / "sweep").bits == (16, 64)


def test_a_workdir_that_is_called_as_a_flag_is_a_workdir(tmp_path):
    saved_run(tmp_path, "codes16")
    done = run_verb("train", "--workdir", "codes16", "--top_k=5", folder=tmp_path)
    assert done.stderr.startswith("error: --top_k is for --codes")  # its configuration was found


@pytest.mark.parametrize(
    ("mode", "how"),
    [("train", "go on with it by --mode=compare"), ("evaluate", "runs/METHOD/seed0/32bits")],
)
def test_a_comparison_is_no_run(tmp_path, mode, how):
    (tmp_path / "tuning.json").write_text("{}")
    message = refused(run_main(f"--workdir={tmp_path}", f"--mode={mode}"))
    assert f"--workdir={tmp_path} holds a comparison; " in message and how in message


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": 1}'])
def test_a_foreign_config_json_is_refused(tmp_path, content):
    workdir = saved_run(tmp_path)
    (workdir / "config.json").write_text(content)
    for mode in ("train", "evaluate"):
        message = refused(run_main(f"--workdir={workdir}", f"--mode={mode}"))
        assert f"{workdir}/config.json" in message


def test_a_device_that_is_absent_is_named(tmp_path):
    command = [*MAIN, f"--workdir={tmp_path}/w"]
    environment = ENVIRONMENT | {"JAX_PLATFORMS": "cuda"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert "JAX cannot use the devices of JAX_PLATFORMS=cuda" in refused(done)


def test_an_environment_that_jax_cannot_use_is_told(tmp_path):
    command = [*MAIN, f"--workdir={tmp_path}/w"]
    environment = ENVIRONMENT | {"JAX_DEFAULT_MATMUL_PRECISION": "bogus"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    message = refused(done)
    assert "JAX cannot use the environment" in message and len(message.splitlines()) == 1
    assert "JAX_DEFAULT_MATMUL_PRECISION=bogus" in message


OTHER_LOCALE = ENVIRONMENT | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


def test_names_are_utf_8_whatever_the_locale(tmp_path):
    workdir = saved_run(tmp_path, "Gemälde")
    command = [*MAIN[:2], f"--workdir={workdir}", "--config.lr=1"]
    done = subprocess.run(command, env=OTHER_LOCALE, capture_output=True, text=True)
    assert "Did you mean optimizer.learning_rate?" in refused(done)
    check = [sys.executable, "-m", "hybridhash_jax", "check", f"--dir={workdir}", "--folder"]
    done = subprocess.run(check, env=OTHER_LOCALE, cwd=ROOT, capture_output=True, text=True)
    assert f"error: {workdir} has no subfolders" in done.stderr


def test_a_path_that_is_no_utf_8_is_refused(tmp_path):
    command = [*MAIN, os.fsencode(f"--workdir={tmp_path}/") + b"Gem\xe4lde"]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True)
    assert "is no UTF-8, which file names must be here" in refused(done)


def test_no_home_is_explained_wherever_it_is_missed(monkeypatch, capsys):
    def fail() -> None:
        raise RuntimeError("Could not determine home directory.")  # as pathlib says

    monkeypatch.setattr(modes, "_start_mode", fail)
    with pytest.raises(SystemExit):
        modes.run_mode()
    assert capsys.readouterr().err.startswith("error: there is no home directory that ~ could mean")


NO_MEMORY = {
    "host": MemoryError(),
    "device": jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes"),
    "products on a CPU": ValueError("INTERNAL: YNNPACK operation failed: error"),
}


@pytest.mark.parametrize("error", NO_MEMORY.values(), ids=NO_MEMORY)
def test_too_little_memory_is_explained(monkeypatch, capsys, error):

    def fail() -> None:
        raise error

    monkeypatch.setattr(modes, "_start_mode", fail)
    with pytest.raises(SystemExit) as end:
        modes.run_mode()
    assert end.value.code == 1
    message = capsys.readouterr().err
    for part in ("out of memory", "batch_size", "accumulation_steps", "--mode=tune_batch"):
        assert part in message
    assert "`hybridhash serve`, may hold its memory: nvidia-smi" in message


@pytest.mark.parametrize("error", NO_MEMORY.values(), ids=NO_MEMORY)
def test_every_verb_explains_too_little_memory(capsys, error):

    def fail() -> None:
        raise error

    assert run_command(fail, "nothing was written") == 1
    message = capsys.readouterr().err
    assert message.startswith("error: out of memory. On a GPU another process, such as `hybridhash")
    assert "JAX_PLATFORMS=cpu" in message


def test_too_little_memory_for_a_file_is_explained_in_the_words_of_its_reader(capsys):

    def fail() -> None:
        try:
            raise MemoryError
        except MemoryError as error:
            raise DataError("a.npz does not fit") from error

    assert run_command(fail, "nothing was written") == 1
    assert capsys.readouterr().err == "error: a.npz does not fit\n"


@pytest.mark.parametrize(
    ("verb", "given", "expected"),
    [("serve", None, "false"), ("search", None, "false"), ("search", "true", "true"), ("encode", None, None)],
)  # fmt: skip
def test_verbs_that_only_search_leave_the_memory_of_a_gpu_to_others(
    monkeypatch, verb, given, expected
):
    name, found = "XLA_PYTHON_CLIENT_PREALLOCATE", []
    monkeypatch.setattr(os, "environ", {name: given} if given else {})
    monkeypatch.setattr(sys, "argv", ["hybridhash", verb])
    module = types.SimpleNamespace(main=lambda arguments: found.append(os.environ.get(name)))
    monkeypatch.setattr(importlib, "import_module", lambda _: module)
    monkeypatch.setattr(signals, "listen", lambda: None)
    monkeypatch.setattr(messages, "ensure_utf8", lambda: None)
    with pytest.raises(SystemExit):
        __main__.main()
    assert found == [expected]


def test_codes_are_measured_without_a_device(tmp_path):
    """Whatever the machine has, even where JAX can use nothing of it."""
    environment = ENVIRONMENT | {"JAX_PLATFORMS": "cuda"}
    words = ["--mode=evaluate", "--codes=nowhere", f"--workdir={tmp_path / 'w'}"]
    done = subprocess.run([*MAIN[:2], *words], env=environment, capture_output=True, text=True)
    assert "there is no nowhere" in refused(done)


def test_train_is_main_py(tmp_path):
    """The same help and mistakes; a whole run of it is in tests/runs/wheel_test.py."""
    for arguments in (["--help"], ["--workdir=w", "--config.batch_sizes=2"]):
        done = run_verb("train", *arguments, folder=tmp_path)
        expected = run_main_here(*arguments)
        assert done.stdout == expected.stdout.replace("python main.py", "hybridhash train")
        assert (done.returncode, done.stderr) == (expected.returncode, expected.stderr)


def run_main_here(*arguments: str):
    return subprocess.run([*MAIN[:2], *arguments], capture_output=True, text=True)


@pytest.mark.parametrize("name", ["digits", "digits.py", "configs/digits", "configs/digits.py"])
def test_a_shipped_configuration_is_found_from_anywhere(tmp_path, name):
    for given in ([f"--config={name}"], ["--config", name]):
        done = run_verb("train", *given, "--workdir=w", "--top_k=5", folder=tmp_path)
        assert done.stderr.startswith("error: --top_k is for --codes")  # the only mistake
        assert done.stdout == ""


def test_fields_may_be_given_before_their_configuration(tmp_path):
    for given in (["--config=digits"], ["--config", "digits"]):
        done = run_verb(
            "train", "--config.data.name=nothing", "--workdir=w", *given, folder=tmp_path
        )
        assert "data.name='nothing' (data set); accepted" in done.stderr


def test_a_file_here_goes_before_the_shipped_one(tmp_path):
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "digits.py").write_text("raise ValueError('this one')")
    done = run_verb("train", "--config=configs/digits.py", "--workdir=w", folder=tmp_path)
    assert "ValueError: this one" in done.stderr


def test_a_workdir_that_cannot_be_made_is_explained(tmp_path):
    (tmp_path / "file").write_text("")
    message = refused(run_main(CONFIG, f"--workdir={tmp_path / 'file' / 'w'}", *flags()))
    assert str(tmp_path / "file") in message


def test_codes_that_are_not_there_are_explained(tmp_path):
    done = run_main("--mode=evaluate", f"--workdir={tmp_path / 'w'}", "--codes=nowhere")
    assert "there is no nowhere; accepted: a folder with query.npz" in refused(done)
    assert not (tmp_path / "w").exists()
