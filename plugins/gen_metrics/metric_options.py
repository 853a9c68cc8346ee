"""Settings of the metrics; attrs only, so that a recipe resolves without torch."""

from __future__ import annotations

from typing import Any, Literal

from attrs import Factory, field, frozen, validators


def _positive(default: Any) -> Any:
    return field(default=default, validator=validators.gt(0))


def _not_negative(default: Any) -> Any:
    return field(default=default, validator=validators.ge(0))


def _share(default: float) -> Any:
    """A field in (0, 1)."""
    return field(default=default, validator=[validators.gt(0.0), validators.lt(1.0)])


def _features() -> Any:
    """The name of a [features] table of the recipe."""
    return field(default="features", metadata={"table": "features"})


def _segmenter() -> Any:
    """The name of a [segmenter] table of the recipe."""
    return field(default="segmenter", metadata={"table": "segmenter"})


def _falling_or_equal(instance: Any, attribute: Any, value: tuple[float, float]) -> None:
    if not 0 < value[0] < value[1]:
        raise ValueError(f"'{attribute.name}' must be two rising numbers above 0, got {list(value)}")


def _vein_artery_disc() -> dict[str, tuple[str, ...]]:
    return {"vein": ("vein",), "artery": ("artery",), "onh": ("onh",)}


def _vessel_and_disc() -> dict[str, tuple[str, ...]]:
    return {"vessel": ("vein", "artery"), "onh": ("onh",)}


@frozen
class Psnr:
    """[metrics] psnr: no settings; the range is 2, because volumes lie in [-1, 1]."""


@frozen
class Ssim:
    """[metrics] ssim: 2-D, band by band."""

    window: int = _positive(11)  # taps of the Gaussian window, at most the axis' length
    sigma: float = _positive(1.5)  # voxels


@frozen
class PhysicalError:
    """[metrics] physical-error: errors of reconstructions in the units of the data."""

    masks: tuple[str, ...] = ()  # also inside each of these masks


@frozen
class CodecTerms:
    """[metrics] codec-terms: no settings; the codec says what it measures of itself."""


@frozen
class MaskAgreement:
    """[metrics] mask-agreement: whether samples show what the mask they were drawn under asks for."""

    mask: str = "lesion"  # of the data set; a condition of the prior
    shell: int = _positive(3)  # voxels around the mask that are looked at
    least_voxels: int = _positive(8)  # smaller masks are passed over


@frozen
class MsSsim:
    """[metrics] ms-ssim: diversity over random pairs of one source."""

    pairs: int = _positive(256)  # pairs of each source
    volumes: int = field(default=256, validator=validators.ge(2))  # volumes kept of each source at most
    memory_mb: int = _positive(768)  # for the kept volumes of all sources together; fewer are kept beyond it
    mode: Literal["3d", "2d"] = "3d"  # "2d": band by band, for comparison with 2-D figures
    scales: int = field(default=5, validator=[validators.ge(1), validators.le(5)])  # at most
    window: int = _positive(11)
    sigma: float = _positive(1.5)


@frozen
class Fid:
    """[metrics] fid: Frechet distance of features, one vector a volume or plane by plane."""

    features: str = _features()
    # "each": axial, coronal and sagittal planes, or band by band, each with its own distance; needs takes = "image"
    # "slices": each slice of the codec's last maps is a vector, all of all volumes together; needs use = "codec"
    planes: Literal["volume", "each", "slices"] = "volume"
    slices: int = _not_negative(32)  # planes of each orientation, evenly spaced; 0 = all
    standardize: Literal["val", "none"] = "val"  # by validation's mean and sd of each feature
    groups: int = field(default=20, validator=validators.ge(2))  # of volumes, for the jackknife
    extrapolate: bool = True  # "fid infinity" from a line over 1/N, where N suffices; not band by band


@frozen
class HyperspectralFid:
    """[metrics] hyperspectral-fid: Frechet distance over random band triplets."""

    features: str = _features()  # a network that takes images
    triplets: int = _positive(100)  # random band triplets of each volume
    volumes: int = _not_negative(0)  # of each source about this many, drawn by their ids; 0 = all
    standardize: Literal["val", "none"] = "none"
    groups: int = field(default=12, validator=validators.ge(2))  # of volumes, for jackknife and limit
    batch: int = _positive(100)  # images at once through the network
    extrapolate: bool = True  # "hyperspectral-fid infinity" from a line over 1/N, N in volumes
    triplet_curve: bool = False  # the distance over 1, 5, 10, 25, 50, 100, 200 triplets a volume; dear


@frozen
class Kid:
    """[metrics] kid: kernel distance (unbiased squared MMD, cubic kernel) of volume features."""

    features: str = _features()
    standardize: Literal["val", "none"] = "val"
    block: int = field(default=2000, validator=validators.ge(4))  # volumes of each side compared at once, at most
    groups: int = field(default=20, validator=validators.ge(3))  # of volumes, for the jackknife


@frozen
class Prdc:
    """[metrics] prdc: precision, recall, density and coverage of volume features."""

    features: str = _features()
    k: int = _positive(5)  # the k-th neighbour bounds a ball
    real: Literal["val", "train"] = "val"  # whose volumes are the real ones
    standardize: Literal["val", "none"] = "val"
    groups: int = field(default=12, validator=validators.ge(3))  # of volumes, for the jackknife


@frozen
class SpectralKl:
    """[metrics] spectral-kl: Gaussian KL, angle and Wasserstein distance of the spectra of each structure."""

    segmenter: str = _segmenter()
    structures: dict[str, tuple[str, ...]] = Factory(_vessel_and_disc)  # structure -> classes that form it
    truth: bool = False  # true masks instead of the segmenter for volumes that have them
    probability: float = _share(0.95)  # pixels at least this sure are taken
    largest: tuple[str, ...] = ("onh",)  # of these only the largest component counts: an eye has one disc
    rim: float = field(default=0.0, validator=[validators.ge(0.0), validators.lt(1.0)])  # of the half width
    centre: float = field(default=0.0, validator=[validators.ge(0.0), validators.lt(1.0)])  # of the half width
    # Added to the diagonal of every covariance, in squared units of [-1, 1]: blurred samples lack the noise of real
    # bands, and the divergence would be about that alone. 0 is the published definition.
    ridge: float = _not_negative(1e-3)
    groups: int = field(default=16, validator=validators.ge(2))  # of volumes, for the jackknife


@frozen
class Segmentation:
    """[metrics] segmentation: how well the segmenter finds structures that have masks, before and after cropping."""

    segmenter: str = _segmenter()
    classes: dict[str, tuple[str, ...]] = Factory(_vein_artery_disc)  # class -> masks whose union is the truth
    against: dict[str, tuple[str, ...]] = Factory(dict)  # class -> a second observer's masks
    threshold: float = _share(0.5)  # before post-processing
    probability: float = _share(0.95)  # after: pixels at least this sure
    rim: float = field(default=0.1, validator=[validators.ge(0.0), validators.lt(1.0)])  # after: of the half width
    centre: float = field(default=0.1, validator=[validators.ge(0.0), validators.lt(1.0)])  # after: of the half width
    largest: tuple[str, ...] = ("onh",)  # after: of these only the largest component counts


@frozen
class Anatomy:
    """[metrics] anatomy: discs, vessel share and vessel contrast."""

    segmenter: str = _segmenter()
    vessel: tuple[str, ...] = ("vein", "artery")  # mask names; a segmenter class "vessel" is taken as it is
    disc: str = "onh"
    probability: float = _share(0.5)
    disc_area: tuple[float, float] = field(
        default=(0.4, 2.5), validator=_falling_or_equal
    )  # limits of a disc's area, in medians of validation's largest component
    speck: float = _share(0.1)  # components under this many medians are ignored
    wavelength_nm: float = _positive(540.0)  # of vessel contrast and detail
    ring: float = _share(0.06)  # width of the background ring around vessels, of min(H, W)


def _shares(instance: Any, attribute: Any, value: tuple[float, ...]) -> None:
    if not all(0 < v < 1 for v in value):
        raise ValueError(f"'{attribute.name}' must be shares in (0, 1), got {list(value)}")


@frozen
class Memorization:
    """[metrics] memorization: nearest training neighbours and the share of copies."""

    features: str = _features()
    distance: Literal["l1", "l2", "cosine"] = "l2"
    metric: Literal["learned", "plain"] = "learned"  # "learned": what altering a volume does counts for little
    standardize: Literal["val", "none"] = "val"
    quantile: float = _share(0.01)  # of the validation-to-training distances
    mirror: bool = True  # search mirrored copies too
    search_crops: tuple[float, ...] = field(default=(0.95, 0.9), validator=_shares)  # training volumes so cropped too
    search: Literal["exact", "auto", "faiss", "hnsw"] = "auto"  # "hnsw": approximate, its recall is said
    neighbours: int = field(default=10, validator=validators.ge(2))
    learn: int = _positive(128)  # training volumes whose altered copies teach the distance
    planted: int = _not_negative(64)  # training volumes planted as copies in the audit, each kind
    noise: float = _not_negative(0.02)  # sd of noisy copies, of the range [-1, 1]
    shift: float = _share(0.03)  # shifted copies: up to this share of the width each way
    crop: float = _share(0.9)  # cropped copies: this share of height and width, scaled back


def _some(instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    if not value or len(set(value)) < len(value):
        raise ValueError(f"'{attribute.name}' must name at least one table, each once, got {list(value)}")


@frozen
class Utility:
    """[metrics] utility: what features pre-trained on real, synthetic or all volumes are worth to a probe."""

    # [features] tables of probes; all are compared with the first, such as the one pre-trained on real volumes only.
    probes: tuple[str, ...] = field(default=("features.probe",), validator=_some, metadata={"table": "features"})
    label: str = "deposits"  # the condition that the probes tell


@frozen
class Outliers:
    """[metrics] outliers: samples far from the data, of an impossible spectrum, or broken in range."""

    features: str = _features()
    neighbours: int = _positive(5)  # the k of the distance to the k-th nearest training volume
    quantile: float = _share(0.01)  # of validation volumes that lie beyond a limit
    contrast: float = _share(0.5)  # a volume is flat below this times the least sd of a real one
    saturated: float = _share(0.05)  # of voxels, allowed beyond the most saturated real volume


def _known_distances(instance: Any, attribute: Any, value: tuple[str, ...]) -> None:
    if not value or set(value) - {"l1", "l2", "cosine"} or len(set(value)) < len(value):
        raise ValueError(f"'{attribute.name}' must name l1, l2 or cosine, each at most once, got {list(value)}")


@frozen
class Recovery:
    """[metrics] recovery: how often the original of an altered training volume is among its nearest neighbours."""

    features: tuple[str, ...] = field(default=("features",), metadata={"table": "features"})  # compared with each other
    pixels: int = _not_negative(16)  # also compared: every band scaled to this height and width; 0 = not
    distances: tuple[str, ...] = field(default=("l1", "l2", "cosine"), validator=_known_distances)
    neighbours: int = _positive(10)
    queries: int = _positive(64)  # training volumes that are altered, each in every way
    standardize: Literal["none", "train"] = "none"  # by the training volumes' mean and sd of each feature


@frozen
class Throughput:
    """[metrics] throughput: no settings; times come from the run's cost.json."""


@frozen
class BitsPerDim:
    """[metrics] bits-per-dim: the likelihood of real volumes under a diffusion prior; dear."""

    volumes: int = _positive(32)  # of each source about this many, drawn by their ids
    told: bool = True  # given each volume's own conditions; false: given none
    probes: int = _positive(1)  # of the trace; more are less noisy, each costs a backward pass
    levels: int = _not_negative(0)  # grey levels of the volumes, where latents are the volumes; 0 = density of latents
    end: float = _share(1e-5)  # the time at which data is taken to lie
    rtol: float = _positive(1e-4)
    atol: float = _positive(1e-4)
    evaluations: int = _positive(2000)  # of the network at most
