"""Layer overrides: what a TOML file may say, what a scheme makes of it, what is refused."""

import pytest

from arraysmith.errors import InputFileError, InvalidNetworkError
from arraysmith.quantization.overrides import check_overrides, read_overrides
from arraysmith.quantization.scheme import (
    SCHEMES,
    Calibration,
    LayerOverride,
    Scales,
    Scheme,
    given_range,
)


def read(tmp_path, text):
    """Overrides of a file of this text."""
    path = tmp_path / "layers.toml"
    path.write_text(text, encoding="utf-8")
    return read_overrides(path)


def test_reads_every_kind_of_entry(tmp_path):
    """Names and patterns, in the order of the file."""
    found = read(
        tmp_path,
        """
[layer."conv1"]
weight_bits = 4
activation_bits = 16

[layer."block?.*"]
calibration = "percentile"
percentile = 99.5

[layer.fc]
range = [-1, 2.5]
""",
    )
    assert found == (
        LayerOverride(layer="conv1", weight_bits=4, activation_bits=16),
        LayerOverride(layer="block?.*", calibration=Calibration.PERCENTILE, percentile=99.5),
        LayerOverride(layer="fc", range=(-1.0, 2.5)),
    )


def test_a_scheme_of_a_layer_takes_what_matches_later_ones_last():
    """Overrides add up; where two speak of one field, the later one holds."""
    overrides = (
        LayerOverride(layer="block*", weight_bits=6, activation_bits=6),
        LayerOverride(layer="block1.conv", weight_bits=4, range=(0.0, 1.0)),
    )
    scheme = Scheme(weight_bits=7)
    assert scheme.for_layer("stem", overrides) is scheme
    assert scheme.for_layer("block2.conv", overrides) == Scheme(weight_bits=6, activation_bits=6)
    assert scheme.for_layer("block1.conv", overrides) == Scheme(weight_bits=4, activation_bits=6)
    assert given_range("block1.conv", overrides) == (0.0, 1.0)
    assert given_range("block2.conv", overrides) is None


def test_a_pattern_knows_upper_case():
    """Layer names do, on every system."""
    assert LayerOverride(layer="Conv*", weight_bits=4).matches("Conv1")
    assert not LayerOverride(layer="Conv*", weight_bits=4).matches("conv1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("layer = 3", 'no layers; give [layer."NAME"] sections'),
        ("", 'no layers; give [layer."NAME"] sections'),
        (
            "\n[layers.conv1]\nweight_bits = 4",
            'unknown section [layers] (line 2); give [layer."NAME"] sections',
        ),
        (
            "[layer]\nconv1 = 4",
            (
                'layer.conv1 is 4; give a section as [layer."conv1"] (line 2) '
                "(a name with dots stands in quotes)"
            ),
        ),
        (
            '[layer."a"]\nweight_bits = 4\n[layer."conv1"]\nweight_bit = 4',
            "[layer.\"conv1\"] unknown entry 'weight_bit' (line 4); did you mean 'weight_bits'?",
        ),
        (
            "[layer.block1.conv]\nweight_bits = 4",
            (
                "[layer.\"block1\"] unknown entry 'conv' (line 1); "
                'a name with dots stands in quotes: [layer."block1.conv"]'
            ),
        ),
        (
            '[layer."a"]\nweight_bits = 3',
            '[layer."a"] (line 2) weights of 3 bits: choose 4 to 16',
        ),
        (
            '[layer."a"]\nweight_bits = 5\nactivation_bits = 17',
            '[layer."a"] (line 3) activations of 17 bits: choose 4 to 16',
        ),
        (
            '[layer."a"]\nweight_bits = true',
            '[layer."a"] (line 2) weight_bits is True, not a whole number',
        ),
        (
            '[layer."a"]\ncalibration = "kl"',
            "[layer.\"a\"] (line 2) calibration is 'kl'; choose minmax, percentile, mse",
        ),
        (
            '[layer."a"]\npercentile = 50',
            '[layer."a"] (line 2) percentile 50: choose above 50, to 100',
        ),
        (
            '[layer."a"]\npercentile = "99"',
            "[layer.\"a\"] (line 2) percentile is '99', not a number",
        ),
        (
            '[layer."a"]\nrange = [1.0]',
            '[layer."a"] (line 2) range is [1.0]; give two numbers as [-1.0, 1.0]',
        ),
        (
            '[layer."a"]\nrange = [2.0, 1.0]',
            '[layer."a"] (line 2) range 2.0…1.0: give a finite low and a finite high above it',
        ),
        (
            '[layer."a"]\nrange = [0, inf]',
            '[layer."a"] (line 2) range 0.0…inf: give a finite low and a finite high above it',
        ),
        ('[layer."a"]\n', "the override of 'a' changes nothing"),
    ],
)
def test_refuses_with_section_key_and_line(tmp_path, text, message):
    """The whole message, for every way to be wrong."""
    with pytest.raises(InputFileError) as caught:
        read(tmp_path, text)
    assert str(caught.value) == f"{tmp_path / 'layers.toml'}: {message}"


def test_refuses_what_is_no_toml(tmp_path):
    """With the parser's own place of the fault."""
    with pytest.raises(InputFileError, match=r"not a TOML file .*line 1"):
        read(tmp_path, "[layer\n")


def test_an_override_of_no_layer_names_near_ones():
    """A mistyped name would otherwise change nothing and say nothing."""
    layers = ("conv1", "conv2", "fc")
    check_overrides((LayerOverride(layer="conv?", weight_bits=4),), layers)
    with pytest.raises(InvalidNetworkError) as caught:
        check_overrides((LayerOverride(layer="cov1", weight_bits=4),), layers)
    assert str(caught.value) == (
        "the override of 'cov1' matches no layer; near ones: 'conv1', 'conv2'"
    )
    with pytest.raises(InvalidNetworkError) as caught:
        check_overrides((LayerOverride(layer="zzz", weight_bits=4),), layers)
    assert str(caught.value) == (
        "the override of 'zzz' matches no layer; near ones: 'conv1', 'conv2', 'fc'"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"activation_bits": 3}, "activations of 3 bits: choose 4 to 16"),
        ({"weight_bits": 17}, "weights of 17 bits: choose 4 to 16"),
        ({"percentile": float("nan")}, "percentile nan: choose above 50, to 100"),
        ({"multiplier_bits": 7}, "multiplier of 7 bits: choose 8 to 31"),
    ],
)
def test_a_scheme_refuses(fields, message):
    """What the arithmetic has no form for."""
    with pytest.raises(InvalidNetworkError) as caught:
        Scheme(**fields)
    assert str(caught.value) == message


def test_named_schemes():
    """Each under its own name, with the three kinds of scales among them."""
    assert all(name == scheme.name for name, scheme in SCHEMES.items())
    assert {scheme.scales for scheme in SCHEMES.values()} == set(Scales)
    assert SCHEMES["default"] == Scheme()
