"""The registry: plugins found without being imported, and one broken plugin breaking nothing else."""

from __future__ import annotations

import subprocess
import sys
import types

import pytest

from gen_core.errors import MissingError, RecipeError
from gen_core.hooks import KINDS, hook_name, hookimpl
from gen_core.registry import OWN, Registry, did_you_mean


def plugin(name: str = "some_plugin", **members) -> types.ModuleType:
    module = types.ModuleType(name)
    vars(module).update(members)
    return module


def codecs(*names: str, **wrong):
    @hookimpl
    def register_codecs(register):
        for name in names:
            strings = {
                "options": "gen_core.options:SplitOptions",
                "build": "types:SimpleNamespace",
                "version": 3,
                "summary": "S.",
            }
            register(name, **(strings | wrong))

    return register_codecs


def load(*modules: types.ModuleType) -> Registry:
    registry = Registry()
    for n, module in enumerate(modules):
        registry.add(module, f"plugin{n}", f"dist-{n}", f"{n}.0")
    return registry


def test_a_registered_component_is_found_with_its_owner():
    registry = load(plugin(register_codecs=codecs("mine")))
    component = registry.get("codec", "mine")
    assert (component.kind, component.version, component.summary) == ("codec", 3, "S.")
    assert component.owner == "dist-0 0.0 (some_plugin)"
    assert registry.names("codec") == ["mine"] and registry.names("prior") == []
    assert registry.problems == []


def test_every_kind_has_a_hook():
    for kind in KINDS:

        @hookimpl
        def hook(register):
            register("x", options="a:B", build="a:b", version=1, summary="")

        registry = load(plugin(**{hook_name(kind): hook}))
        assert registry.names(kind) == ["x"], kind


def test_options_and_builder_are_imported_on_use():
    component = load(plugin(register_codecs=codecs("mine"))).get("codec", "mine")
    from gen_core.options import SplitOptions

    assert component.options_class() is SplitOptions
    strings = {"build": "test_registry_absent:build"}
    component = load(plugin(register_codecs=codecs("mine", **strings))).get("codec", "mine")
    with pytest.raises(MissingError, match="test_registry_absent"):
        component.build(None, None)


def test_the_builder_gets_options_and_context():
    component = load(plugin(register_codecs=codecs("mine", build="operator:add"))).get("codec", "mine")
    assert component.build([1], [2]) == [1, 2]


def test_an_unknown_name_lists_the_installed_and_the_nearest():
    registry = load(plugin(register_codecs=codecs("vqgan", "vqvae")))
    with pytest.raises(RecipeError) as caught:
        registry.get("codec", "vqvea")
    assert str(caught.value) == "no codec 'vqvea'; installed: vqgan, vqvae; did you mean 'vqvae'?"
    with pytest.raises(RecipeError, match="no prior 'x'; installed: none$"):
        registry.get("prior", "x")


def test_a_name_with_two_owners_is_refused_naming_both_and_the_rest_works():
    registry = load(
        plugin("one", register_codecs=codecs("same", "first")), plugin("two", register_codecs=codecs("same"))
    )
    with pytest.raises(RecipeError) as caught:
        registry.get("codec", "same")
    assert "dist-0 0.0 (one)" in str(caught.value) and "dist-1 1.0 (two)" in str(caught.value)
    assert registry.get("codec", "first").distribution == "dist-0"
    rows = [r for r in registry.rows() if r["name"] == "same"]
    assert [r["status"] for r in rows] == ["conflict", "conflict"]
    assert "one" in rows[1]["problem"] and "two" in rows[0]["problem"]
    assert len(registry.problems) == 2


def test_equal_names_of_different_kinds_are_no_conflict():
    @hookimpl
    def register_features(register):
        register("same", options="a:B", build="a:b", version=1, summary="")

    registry = load(plugin(register_codecs=codecs("same"), register_features=register_features))
    assert registry.get("codec", "same").kind == "codec"
    assert registry.get("features", "same").kind == "features"
    assert registry.problems == []


def fails(register):
    raise RuntimeError("no licence\nfound")


def leaves(register):
    raise SystemExit(3)


@pytest.mark.parametrize(
    ("members", "cause"),
    [
        ({"register_codecs": hookimpl(fails)}, "RuntimeError: no licence found"),
        ({"register_codecs": hookimpl(leaves)}, "SystemExit: 3"),
        ({"GEN_API": 99, "register_codecs": codecs("x")}, "made for plugin interface 99, this gen has 1"),
        ({"register_codecs": codecs("x", "x")}, "codec 'x' is registered twice"),
        ({"register_codecs": codecs("a.b")}, "a name is letters"),
        ({"register_codecs": codecs("x", options=dict)}, "options must be a string"),
        ({"register_codecs": codecs("x", build="nocolon")}, "build must be a string"),
        ({"register_codecs": codecs("x", version="1.0")}, "version must be an integer"),
        ({"register_codecs": codecs("x", version=0)}, "version must be an integer"),
        ({"register_codecs": codecs("x", summary=None)}, "summary must be text"),
        ({"register_codecs": codecs("x", colour="red")}, "colour"),
    ],
)
def test_a_broken_plugin_is_a_row_with_its_cause(members, cause):
    registry = load(plugin("bad", **members), plugin("good", register_codecs=codecs("fine")))
    assert registry.names("codec") == ["fine"]
    (row,) = [r for r in registry.rows() if r["kind"] == "plugin"]
    assert row["status"] == "broken" and row["module"] == "bad" and cause in row["problem"]
    assert len(registry.problems) == 1 and "\n" not in registry.problems[0]


def test_an_entry_point_to_an_object_is_told():
    registry = Registry()
    registry.add("gen_codecs.plugin:thing", "p", "d", "1")
    assert "names a module, without ':'" in registry.problems[0]


def test_an_interrupt_is_not_swallowed():
    @hookimpl
    def register_codecs(register):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load(plugin(register_codecs=register_codecs))


def test_a_plugin_that_prints_is_named_and_its_text_stays_out_of_the_way(capsys):
    @hookimpl
    def register_codecs(register):
        print("hello")
        register("x", options="a:B", build="a:b", version=1, summary="")

    registry = load(plugin(register_codecs=register_codecs))
    assert registry.names("codec") == ["x"]
    assert "prints" in registry.problems[0] and "hello" in registry.problems[0]
    assert capsys.readouterr() == ("", "")


def test_an_unknown_hook_is_a_problem_with_the_nearest_name():
    registry = load(plugin(register_codec=codecs("x"), register_priors=lambda register: None))
    assert "unknown hook 'register_codec'; did you mean 'register_codecs'?" in registry.problems[0]
    assert "hook 'register_priors' lacks @hookimpl" in registry.problems[1]


def test_a_plugin_without_components_says_so():
    assert "registers nothing" in load(plugin()).problems[0]


def test_a_missing_package_names_the_extra_that_installs_it(monkeypatch):
    lines = [
        "torch>=2",
        "h5py>=3.11; extra == 'hyper'",
        "h5py>=3.11 ; extra == 'test'",
        "faiss-cpu; extra == 'fast'",
    ]
    monkeypatch.setattr("gen_core.component.metadata.requires", lambda name: lines)
    component = load(plugin(register_codecs=codecs("x"))).get("codec", "x")
    missing = lambda name: str(component._missing(ModuleNotFoundError("gone", name=name)))
    assert 'pip install "dist-0[hyper]"' in missing("h5py.h5f")
    assert "[fast]" in missing("faiss")
    assert missing("zarr").endswith("needs 'zarr', which is not installed: pip install zarr")
    assert "cannot be imported" in missing("some_plugin.codec")


def test_a_module_missing_while_building_is_told_the_same_way():
    def build(options, context):
        import absent_package_for_this_test  # noqa: F401

    module = types.ModuleType("late_builder")
    module.build = build
    sys.modules["late_builder"] = module
    component = load(plugin(register_codecs=codecs("x", build="late_builder:build"))).get("codec", "x")
    with pytest.raises(MissingError, match="needs 'absent_package_for_this_test', which is not installed"):
        component.build(None, None)


def test_a_builder_that_is_not_there_is_told():
    component = load(plugin(register_codecs=codecs("x", build="operator:nothing"))).get("codec", "x")
    with pytest.raises(MissingError, match="has no attribute 'nothing'"):
        component.build(None, None)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A distribution `gen-stranger` on the path, offering the codec `stranger`."""
    info = tmp_path / "gen_stranger-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: gen-stranger\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[gen.plugins]\nstranger = gen_stranger\n")
    (tmp_path / "gen_stranger.py").write_text(
        "import attrs\nfrom gen_core.hooks import hookimpl\n\n\n@attrs.frozen\nclass Options: ...\n\n\n"
        "@hookimpl\ndef register_codecs(register):\n"
        "    register('stranger', options='gen_stranger:Options', build='gen_stranger:build', version=1, summary='')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delenv("GEN_PLUGINS", raising=False)
    yield
    sys.modules.pop("gen_stranger", None)


def test_our_own_plugins_come_through_the_same_door():
    registry = Registry.load()
    component = registry.get("codec", "vqvae")
    assert component.distribution == OWN and component.module == "gen_codecs.plugin"


def test_an_installed_stranger_is_found(installed):
    component = Registry.load().get("codec", "stranger")
    assert component.owner == "gen-stranger 1.5 (gen_stranger)"


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("off", False),
        ("other", False),
        ("other, Gen_Stranger", True),
        ("gen-stranger", True),
        ("", False),
        ("NONE", False),
        ("gen-stranger:stranger", True),
        ("gen-stranger:else", False),
        ("stranger", False),
    ],
)
def test_the_environment_says_whose_plugins_load_and_ours_always_do(installed, monkeypatch, value, found):
    monkeypatch.setenv("GEN_PLUGINS", value)
    registry = Registry.load()
    assert ("stranger" in registry.names("codec")) is found
    assert "vqvae" in registry.names("codec")
    off = [r for r in registry.rows() if r["status"] == "off"]
    assert len(off) == (not found) and registry.problems == []
    if not found:
        assert "GEN_PLUGINS does not name gen-stranger" in off[0]["problem"]
        with pytest.raises(RecipeError, match="1 plugin not loaded"):
            registry.get("codec", "stranger")


def test_the_allow_list_can_be_given_in_the_call(installed):
    assert "stranger" not in Registry.load(allow="off").names("codec")
    assert "stranger" not in Registry.load(allow=[]).names("codec")
    assert "stranger" in Registry.load(allow=["gen-stranger"]).names("codec")


def test_a_distribution_found_twice_on_the_path_counts_once(installed, tmp_path, monkeypatch):
    import shutil

    again = tmp_path / "again"
    shutil.copytree(tmp_path / "gen_stranger-1.5.dist-info", again / "gen_stranger-1.4.dist-info")
    sys.path.append(str(again))
    try:
        assert Registry.load().get("codec", "stranger").distribution == "gen-stranger"
    finally:
        sys.path.remove(str(again))


def test_listing_imports_no_torch_and_no_numpy():
    code = (
        "import sys; from gen_core.registry import Registry; rows = Registry.load(allow='off').rows(); "
        "print(len(rows), sorted({'torch', 'numpy', 'scipy', 'cattrs', 'tomlkit'} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    count, loaded = out.stdout.split(maxsplit=1)
    assert int(count) > 15 and loaded.strip() == "[]"


def test_the_nearest_name_is_found_whatever_its_case():
    assert did_you_mean("KERNAL", ["kernel", "stride"]) == "; did you mean 'kernel'?"
    assert did_you_mean("zzz", ["kernel"]) == ""
