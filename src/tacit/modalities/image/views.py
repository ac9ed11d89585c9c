"""Random views of images, a whole batch at a time, on the device the images are on.

All geometry (crop, resize, mirror, rotate, shear, shift) is ONE affine sampling per image, so a pixel is interpolated
once. All colour (brightness, contrast, saturation, hue, grey) is ONE 3x4 matrix per image, so a pixel is clipped once,
at the end. Blur, solarise and cut-out follow, only for the images that drew them. Every draw is a function of the
example's key, so a view depends neither on its neighbours in the batch nor on the order of calls.

The recipe is SimCLR's (Chen et al. 2020, appendix A) with these departures: the colour steps come in one fixed order
and are not clipped in between, hue turns about the grey axis at constant luma, and a crop too wide for the image is
narrowed rather than drawn again. Solarise is BYOL's (Grill et al. 2020), cut-out DeVries and Taylor's (2017).

Shapes: B images, C channels, H W pixels.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from tacit.core import keys
from tacit.core.errors import UserError
from tacit.core.nn import to_float
from tacit.core.types import Batch

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601: how bright red, green and blue look
_CHUNK = 2**19  # floats processed at once on a CPU, which stay in its cache, 2 MiB


@dataclass(frozen=True, kw_only=True)
class Views:
    """Settings of the random views; called with a batch and the view's number, it draws that view of every image.

    Probabilities are per image. `crop` is the range of the window's area as a fraction of the image, above 1 to look
    from further away (what lies outside repeats the border); `aspect` of its width over height; `rotate` and `shear`
    the largest angle in degrees either way; `shift` the largest extra displacement as a fraction of the side.
    `brightness`, `contrast`, `saturation` draw a factor in [1 - s, 1 + s], `hue` a turn in [-s, s], all together with
    probability `jitter`. `blur_px` is the range of the Gaussian's deviation in pixels; `cutout_side` the range of the
    side, as a fraction, of the square replaced by the image's mean.
    """

    crop: tuple[float, float] = (0.08, 1.0)
    aspect: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5
    rotate: float = 0.0
    shear: float = 0.0
    shift: float = 0.0
    jitter: float = 0.8
    brightness: float = 0.8
    contrast: float = 0.8
    saturation: float = 0.8
    hue: float = 0.2
    grey: float = 0.2
    blur: float = 0.5
    blur_px: tuple[float, float] = (0.1, 2.0)
    solarise: float = 0.0
    cutout: float = 0.0
    cutout_side: tuple[float, float] = (0.2, 0.5)

    def __post_init__(self) -> None:
        for name in ("flip", "jitter", "grey", "blur", "solarise", "cutout"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise UserError(f"views: {name} is a probability, not {getattr(self, name)}; give 0 to 1")
        for name in ("crop", "aspect", "blur_px", "cutout_side"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high:
                raise UserError(f"views: {name} is a range above 0, not ({low}, {high}); give (low, high)")

    @torch.no_grad()
    def __call__(self, batch: Batch, view: int) -> Batch:
        """View number `view` of every image: `image` float32 in [0, 1] of the same shape, `key` the view's own."""
        image, key = batch["image"], keys.split(batch["key"], view)
        out = torch.empty(image.shape, dtype=torch.float32, device=image.device)
        rows = max(1, _CHUNK // image[0].numel()) if image.device.type == "cpu" else len(image)
        with torch.autocast(image.device.type, enabled=False):  # half precision would round places and pixels
            drawn = self._draw(key, image.shape[1])
            for start in range(0, len(image), rows):
                part = slice(start, start + rows)
                view_of_part = self._render(image[part], {name: value[part] for name, value in drawn.items()})
                torch.clamp(view_of_part, 0.0, 1.0, out=out[part])
        return {**batch, "image": out, "key": key}

    def _draw(self, key: Tensor, channels: int) -> dict[str, Tensor]:
        """Everything random about these views, one row per image."""
        drawn = {"affine": self._affine(key)}
        if self.jitter > 0 or self.grey > 0:
            drawn["colour"], drawn["contrast"] = self._colour(key, channels)
        if self.blur > 0:
            u = keys.uniform(key, "blur", 2)
            drawn["blur"] = _between(u[:, 1], self.blur_px) * (u[:, 0] < self.blur)  # deviation in px, 0 for none
        if self.solarise > 0:
            drawn["solarise"] = keys.uniform(key, "solarise", 1)[:, 0] < self.solarise
        if self.cutout > 0:
            u = keys.uniform(key, "cutout", 4)
            side = _between(u[:, 1], self.cutout_side) * (u[:, 0] < self.cutout)
            drawn["cutout"] = torch.stack([u[:, 2], u[:, 3], side / 2], dim=1)  # centre x y, half the side
        return drawn

    def _affine(self, key: Tensor) -> Tensor:
        """[B 2 3], from the view's coordinates to the image's, both in [-1, 1] with x first."""
        u = keys.uniform(key, "crop", 4)
        area, aspect = _between(u[:, 0], self.crop), torch.exp(_between(u[:, 1], _log(self.aspect)))
        widest = max(1.0, math.sqrt(self.crop[1]))
        width = torch.sqrt(area * aspect).clamp_(max=widest)
        height = torch.sqrt(area / aspect).clamp_(max=widest)
        room = torch.stack([1 - width, 1 - height], dim=1).abs()  # how far the window's centre may lie from the middle
        centre = _signed(u[:, 2:]) * room
        if self.shift > 0:
            centre = centre + 2 * self.shift * _signed(keys.uniform(key, "shift", 2))
        mirror = torch.where(keys.uniform(key, "flip", 1)[:, 0] < self.flip, -1.0, 1.0)
        turn = _signed(keys.uniform(key, "turn", 2)) * torch.tensor(
            [math.radians(self.rotate), math.radians(self.shear)], device=key.device
        )
        cos, sin, slant = turn[:, 0].cos(), turn[:, 0].sin(), turn[:, 1].tan()
        x_axis = torch.stack([cos, sin], dim=1) * (mirror * width)[:, None]
        y_axis = torch.stack([slant * cos - sin, slant * sin + cos], dim=1) * height[:, None]
        return torch.stack([x_axis, y_axis, centre], dim=2)

    def _colour(self, key: Tensor, channels: int) -> tuple[Tensor, Tensor]:
        """The colour matrix [B C C], and the share [B] of the view's mean luma that the contrast adds to it."""
        u = keys.uniform(key, "colour", 6)
        strength = torch.tensor([self.brightness, self.contrast, self.saturation, self.hue], device=key.device)
        jitter = _signed(u[:, 1:5]) * strength * (u[:, :1] < self.jitter)
        brightness, contrast, saturation = (1 + jitter[:, :3]).clamp_(min=0).unbind(1)
        gain = (brightness * contrast)[:, None, None]
        offset = brightness * (1 - contrast)  # times the mean luma
        if channels != 3:  # bands of any meaning have no hue
            return gain * torch.eye(channels, device=key.device), offset
        luma = torch.tensor([_LUMA] * 3, device=key.device)  # [3 3], every row the weights
        chroma = torch.eye(3, device=key.device) - luma
        vivid = saturation * (u[:, 5] >= self.grey)  # grey is no saturation
        hue = chroma @ _turn_about_grey(jitter[:, 3]) @ chroma
        return gain * (luma + vivid[:, None, None] * hue), offset

    def _render(self, image: Tensor, drawn: Mapping[str, Tensor]) -> Tensor:
        """The drawn views of `image` [B C H W], not yet clipped."""
        view = sample(to_float(image), drawn["affine"])
        if "colour" in drawn:
            view = recolour(view, drawn["colour"], drawn["contrast"])
        if "blur" in drawn:
            chosen = drawn["blur"].nonzero()[:, 0]
            if len(chosen):
                view.index_copy_(0, chosen, gaussian_blur(view[chosen], drawn["blur"][chosen]))
        if "solarise" in drawn:
            bright = drawn["solarise"][:, None, None, None] & (view >= 0.5)
            view = torch.where(bright, 1 - view, view)
        return cut_out(view, drawn["cutout"]) if "cutout" in drawn else view


def sample(image: Tensor, affine: Tensor) -> Tensor:
    """Bilinear sampling [B C H W] through `affine` [B 2 3]; outside the image its border repeats."""
    height, width = image.shape[2:]
    x, y = _pixel_centres(width, image), _pixel_centres(height, image)
    along_x = affine[:, :, 0, None] * x  # [B 2 W]
    along_y = affine[:, :, 1, None] * y + affine[:, :, 2, None]  # [B 2 H]
    grid = (along_x[:, :, None] + along_y[..., None]).permute(0, 2, 3, 1)  # [B H W 2]; quicker plane by plane
    return F.grid_sample(image, grid, mode="bilinear", padding_mode="border", align_corners=False)


def recolour(image: Tensor, matrix: Tensor, contrast: Tensor) -> Tensor:
    """`matrix` [B C C] times every pixel, plus `contrast` [B] times the image's mean luma."""
    channels = image.shape[1]
    luma = torch.tensor(_LUMA if channels == 3 else [1 / channels] * channels, device=image.device)
    offset = contrast * (image.mean(dim=(2, 3)) @ luma)  # [B]
    offset = offset[:, None, None].expand(-1, channels, 1)
    return torch.baddbmm(offset, matrix, image.flatten(2)).view_as(image)


def gaussian_blur(image: Tensor, sigma_px: Tensor) -> Tensor:
    """Separable Gaussian of deviation `sigma_px` [B] > 0, cut off at 3 deviations; the border repeats."""
    reach = max(1, math.floor(3 * float(sigma_px.max())))
    offset = torch.arange(reach + 1, device=image.device)
    weight = torch.exp(-0.5 * (offset / sigma_px[:, None]) ** 2) * (offset <= 3 * sigma_px[:, None])  # [B R+1]
    weight = weight / (2 * weight.sum(dim=1, keepdim=True) - 1)
    weight = weight[:, :, None, None, None]
    for dim, padding in ((2, [0, 0, reach, reach]), (3, [reach, reach, 0, 0])):
        padded, extent = F.pad(image, padding, mode="replicate"), image.shape[dim]
        image = image * weight[:, 0]
        for k in range(1, reach + 1):
            pair = padded.narrow(dim, reach - k, extent) + padded.narrow(dim, reach + k, extent)
            image.addcmul_(pair, weight[:, k])
    return image


def cut_out(image: Tensor, square: Tensor) -> Tensor:
    """The image's mean in place of a square: `square` [B 3] is its centre x, y and half its side, as fractions."""
    height, width = image.shape[2:]
    x, y = (_pixel_centres(width, image) + 1) / 2, (_pixel_centres(height, image) + 1) / 2
    across = (x - square[:, :1]).abs() < square[:, 2:]  # [B W]
    down = (y - square[:, 1:2]).abs() < square[:, 2:]  # [B H]
    inside = down[:, None, :, None] & across[:, None, None, :]
    return torch.where(inside, image.mean(dim=(2, 3), keepdim=True), image)


def _turn_about_grey(turns: Tensor) -> Tensor:
    """Rotations [B 3 3] of colour space about the grey axis, by `turns` [B] of a full circle (Rodrigues' formula)."""
    angle = (2 * math.pi * turns)[:, None, None]
    eye, third = torch.eye(3, device=turns.device), torch.full((3, 3), 1 / 3, device=turns.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=turns.device) / math.sqrt(3)
    return angle.cos() * eye + angle.sin() * cross + (1 - angle.cos()) * third


def _pixel_centres(n: int, like: Tensor) -> Tensor:
    """Where the middles of n pixels lie on [-1, 1]."""
    return (torch.arange(n, device=like.device) * 2 + 1) / n - 1


def _between(u: Tensor, span: tuple[float, float]) -> Tensor:
    return span[0] + (span[1] - span[0]) * u


def _signed(u: Tensor) -> Tensor:
    return 2 * u - 1


def _log(span: tuple[float, float]) -> tuple[float, float]:
    return math.log(span[0]), math.log(span[1])
