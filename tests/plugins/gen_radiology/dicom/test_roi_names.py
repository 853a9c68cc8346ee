"""Standard names of regions: spellings, sides, numbers, the user's own table and what it must look like."""

import pytest

from gen_core.errors import DataError
from gen_radiology.dicom.roi_names import BUILT_IN, RoiNames, words_of


@pytest.mark.parametrize(
    "given, standard",
    [
        ("GTV-1", "gtv"),
        ("gtv1", "gtv"),
        ("Gross Tumor Volume", "gtv"),
        ("GROSS_TUMOUR_VOLUME 2", "gtv"),
        ("GTV_Mass_CT", "gtv"),
        ("GTV_Mass_MR_T1", "gtv"),
        ("GTVn", "gtv_nodes"),
        ("PTV 60", "ptv"),
        ("External", "body"),
        ("SpinalCord", "spinal_cord"),
        ("Spinal-Cord", "spinal_cord"),
        ("Oesophagus", "esophagus"),
        ("Lung_L", "lung_left"),
        ("Left Lung", "lung_left"),
        ("lung, left", "lung_left"),
        ("LUNG_RT", "lung_right"),
        ("RightLung", "lung_right"),
        ("leftlung", "lung_left"),
        ("Lungs", "lung"),
        ("ParotidL", "parotid_left"),
        ("R FEMORAL HEAD", "femur_head_right"),
        ("lung 1 left", "lung_left"),
    ],
)
def test_spellings_of_one_structure_become_its_standard_name(given, standard):
    assert RoiNames().standard(given) == standard


@pytest.mark.parametrize(
    "given, standard",
    [
        ("PTV-GTV", "ptv_gtv"),  # a difference of two, not one of them
        ("Lungs-GTV", "lungs_gtv"),
        ("Rib 7 L", "rib_7_left"),
        ("vertebra L1", "vertebra_l_1"),
        ("Bolus (5mm)", "bolus_5_mm"),
        ("Plexus_Ä", "plexus_ä"),
        ("Left", "left"),
        ("---", "unnamed"),
    ],
)
def test_an_unknown_name_keeps_its_words_number_and_side(given, standard):
    assert RoiNames().standard(given) == standard


def test_a_users_table_goes_before_the_built_in_one_alias_by_alias():
    names = RoiNames({"lesion": ["GTV-1", "mass of *"], "boost": "GTV-2"})
    assert names.standard("gtv 1") == "lesion" and names.standard("Gtv2") == "boost"
    assert names.standard("GTV") == names.standard("GTV-3") == "gtv"  # still the built-in table's
    assert names.standard("mass of the left thigh") == "lesion"
    assert names.standard("Lesion") == "lesion"  # a standard name is its own alias
    assert RoiNames({"x": ["y"]}, built_in=False).standard("Gross Tumor Volume") == "gross_tumor_volume"


def test_a_users_alias_with_a_side_wins_over_the_same_without():
    names = RoiNames({"good_lung": ["left lung"]})
    assert names.standard("Left-Lung") == "good_lung" and names.standard("Lung_R") == "lung_right"


def test_a_table_comes_from_toml_too(tmp_path):
    path = tmp_path / "names.toml"
    path.write_text('lesion = ["GTV*"]\nheart = "Herz"\n')
    names = RoiNames(path)
    assert names.standard("GTV_Mass_CT") == "lesion" and names.standard("HERZ") == "heart"
    assert RoiNames(str(path)).standard("herz 1") == "heart"


def test_names_that_become_one_are_reported_each_with_what_was_given():
    found, notes = RoiNames().standardize(["GTV-1", "gtv1", "Heart", "GTV"])
    assert found == {"GTV-1": "gtv", "gtv1": "gtv", "Heart": "heart", "GTV": "gtv"}
    assert notes == ["3 regions are 'gtv' and are united: GTV, GTV-1, gtv1"]
    assert RoiNames().standardize(["Heart", "Liver"])[1] == []
    assert len(RoiNames().standardize(["Heart", "Heart"])[1]) == 1


def test_the_built_in_table_knows_every_one_of_its_own_aliases_on_both_sides():
    names = RoiNames()
    for standard, aliases in BUILT_IN.items():
        for alias in aliases:
            plain = alias.replace("*", "")
            assert names.standard(plain.upper()) == standard
            assert names.standard(f"{plain} Lt") == f"{standard}_left"


@pytest.mark.parametrize(
    "table, message",
    [
        ({"a": ["Mass"], "b": ["mass"]}, "alias 'mass' belongs to both 'a' and 'b'"),
        ({"a": [3]}, "key 'a' holds"),
        ({"a": {"b": "c"}}, "key 'a' holds"),
        ({"a": ["--"]}, "alias '--' has no letters"),
        ({"a": ["*"]}, "has no letters"),
    ],
)
def test_a_table_of_another_form_is_refused(table, message):
    with pytest.raises(DataError, match=message.replace("*", r"\*")):
        RoiNames(table)


def test_a_damaged_or_missing_toml_file_is_named(tmp_path):
    bad = tmp_path / "bad.toml"
    bad.write_text("gtv = [")
    with pytest.raises(DataError, match="bad.toml: not a TOML table"):
        RoiNames(bad)
    with pytest.raises(DataError, match="none.toml: cannot be read"):
        RoiNames(tmp_path / "none.toml")


def test_words_are_parted_at_capitals_digits_and_punctuation():
    assert words_of("LungLeft_2a") == ["lung", "left", "2", "a"]
    assert words_of("GTVp") == ["gtvp"]
