"""llama.cpp's graph of an image encoder, replayed for the memory that one image takes while it is read.

Sources (build 11434): `build_vit`, `build_attn`, `build_ffn` and `build_inp` of tools/mtmd/clip.cpp, and the graphs of
tools/mtmd/models. Only tensors as large as an image's patches count; what differs by name alone does not.
"""

from __future__ import annotations

from dataclasses import dataclass

from llmstack.plan.allocator import NodeList, Size

_BLOCKS = 5  # the holes of a first block differ; the last one attends to everything
ALIGNMENT = 128  # bytes: the largest of the backends' (CUDA); 32 on the processor


@dataclass(frozen=True, slots=True)
class EncoderShape:
    """What decides which tensors an encoder has, and their sizes.

    merge: patches of a side that become one token. inner, text: widths of the projection, and of what it hands over.
    extra: a class token. fused: one matrix for Q, K and V. gated: two feed-forward matrices whose product counts.
    rotated: Q and K are (RoPE). normed: Q, K and V are, before that. temporal: two convolutions of one image (Qwen).
    windowed: attention within windows, by a mask. copied: positions are looked up or resized, not added as they are.
    """

    width: int
    ff: int
    patch: int
    merge: int
    inner: int
    text: int
    extra: bool = False
    fused: bool = False
    gated: bool = False
    rotated: bool = False
    normed: bool = False
    temporal: bool = False
    windowed: bool = False
    copied: bool = False


def encoder_bytes(shape: EncoderShape, patches_x: int, patches_y: int, images: int = 1) -> int:
    """Bytes of the compute buffer for `images` of so many patches at once (ggml_backend_sched_reserve)."""
    program = _Graph(shape, patches_x * patches_y, images).build().program()
    return program.peak([-(-size[0][1] // ALIGNMENT) * ALIGNMENT for size in program.table])


def _bytes(amount: int) -> Size:
    return (("bytes", amount),)


class _Graph:
    def __init__(self, shape: EncoderShape, patches: int, images: int) -> None:
        self.shape = shape
        self.nodes = NodeList()
        self.images = images
        self.patches = patches * images
        self.tokens = self.patches + images * shape.extra
        self.wide = self._rows(shape.width)
        self.masked = False

    def build(self) -> NodeList:
        shape, nodes = self.shape, self.nodes
        pixels = nodes.allocate(_bytes(12 * self.patches * shape.patch**2))  # inputs are allocated before all others
        mask = nodes.allocate(_bytes(4 * self.tokens**2)) if shape.windowed else None
        positions = (
            nodes.allocate(_bytes(16 * self.tokens)) if shape.rotated or (shape.extra and shape.copied) else None
        )
        residual = self._patches(pixels)
        if shape.windowed:
            residual = nodes.allocate(self.wide, residual)
        for number in range(_BLOCKS):
            residual, mask = self._block(residual, positions, mask if number < _BLOCKS - 1 else None)
        self._project(residual)
        if positions is not None:
            nodes.consume(positions)
        return nodes

    def _rows(self, width: int) -> Size:
        """F32 values of all tokens."""
        return _bytes(4 * self.tokens * width)

    def _convolution(self, pixels: int) -> int:
        """ggml_conv_2d: im2col in F16, the product, and its result put in order."""
        columns = self.nodes.allocate(_bytes(6 * self.patches * self.shape.patch**2), pixels)
        plain = _bytes(4 * self.patches * self.shape.width)
        return self.nodes.allocate(plain, self.nodes.allocate(plain, columns))

    def _patches(self, pixels: int) -> int:
        shape, nodes = self.shape, self.nodes
        plain = _bytes(4 * self.patches * shape.width)
        first = self._convolution(pixels)
        if shape.temporal:
            first = nodes.in_place(plain, first, self._convolution(pixels))
            first = nodes.allocate(plain, first)
        patches = nodes.allocate(plain, first)
        if shape.extra:
            patches = nodes.allocate(self.wide, patches)
        return nodes.in_place(self.wide, patches, nodes.allocate(self.wide)) if shape.copied else patches

    def _block(self, residual: int, positions: int | None, mask: int | None) -> tuple[int, int | None]:
        nodes, wide = self.nodes, self.wide
        attended, mask = self._attention(nodes.allocate(wide, residual), positions, mask)
        out = nodes.allocate(wide, attended)
        residual = nodes.in_place(wide, out, residual)
        down = nodes.allocate(wide, self._feed_forward(nodes.allocate(wide, residual)))
        return nodes.in_place(wide, residual, down), mask

    def _attention(self, normed: int, positions: int | None, mask: int | None) -> tuple[int, int | None]:
        shape, nodes, wide = self.shape, self.nodes, self.wide
        if shape.fused:
            whole = nodes.allocate(self._rows(3 * shape.width), normed)
            query, key, value = self._rotated(whole, positions), self._rotated(whole, positions), whole
        else:
            query = self._rotated(nodes.allocate(wide, normed), positions)
            key = self._rotated(nodes.allocate(wide, normed), positions)
            value = nodes.allocate(wide, normed)
            value = nodes.allocate(wide, value) if shape.normed else value
        half = _bytes(2 * self.tokens * shape.width)
        keys, values = nodes.allocate(half, key), nodes.allocate(half, value)
        if mask is None:
            return nodes.allocate(wide, query, keys, values), None
        size = _bytes(2 * self.tokens**2)
        if not self.masked:  # once to F16; build_attn copies that for every block
            self.masked, mask = True, nodes.allocate(size, mask)
        return nodes.allocate(wide, query, keys, values, nodes.allocate(size, mask)), mask

    def _rotated(self, rows: int, positions: int | None) -> int:
        """A view cannot be rotated in place (ggml_gallocr_allocate_node), and these are views by heads."""
        if not self.shape.rotated:
            return rows
        assert positions is not None
        return self.nodes.allocate(self.wide, rows, positions)

    def _feed_forward(self, normed: int) -> int:
        nodes, inner = self.nodes, self._rows(self.shape.ff)
        if not self.shape.gated:
            return nodes.in_place(inner, nodes.allocate(inner, normed))
        gate, up = nodes.allocate(inner, normed), nodes.allocate(inner, normed)
        return nodes.allocate(inner, gate, up)

    def _project(self, residual: int) -> None:
        """Patches are gathered, merged, and brought to the text model's width."""
        shape, nodes = self.shape, self.nodes
        normed = nodes.allocate(self.wide, residual)
        gathered = nodes.allocate(self.wide, normed)
        tokens = self.patches // shape.merge**2
        merged = nodes.allocate(self.wide, gathered)
        inner = nodes.allocate(_bytes(4 * tokens * shape.inner), merged)
        nodes.consume(nodes.allocate(_bytes(4 * tokens * shape.text), inner))
