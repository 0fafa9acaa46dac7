"""llama-server's flags, one record each: the only list of them.

The records stand in the order in which a person reads a command line: model, context, placement, cache, batches,
speculation, the rest. `plan.argv` writes the flags of a plan in this order. Behind them come the flags that the
stack, the catalog or a user may add.

Names and meanings: common/arg.cpp of llama.cpp. A flag that is not in this table is handed on as it is, and counts as
one that shapes a saved state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llmstack.llama_server.values import (
    DEVICES,
    DRAFT_MODEL,
    FILE,
    KV_TYPE,
    LOAD_MODE,
    NUMBER,
    ON_OFF_AUTO,
    ROPE_SCALING,
    SHARES,
    SWITCH,
    TEMPLATE_FILE,
    TEXT,
    ValueKind,
    number,
)

# What -ncmoe and -ncffn move to the CPU, of each block (common/common.h: LLM_FFN_EXPS_REGEX, LLM_FFN_DENSE_REGEX).
EXPERT_TENSORS = r"\.ffn_(up|down|gate|gate_up)_(ch|)exps"
DENSE_TENSORS = r"\.ffn_(up|down|gate)\."


@dataclass(frozen=True, slots=True)
class Flag:
    """One flag.

    name: as our own command lines spell it. aliases: its other names, in this build or another one. negation: the names
    of the switch that undoes it. about: what it does, for a person.

    field, goal_field: where a plan keeps its value, in plan.assignment.Assignment or in plan.goal.Goal. always: it is
    written even when that value is zero. pinnable: `--set` may fix it. only_pinned: a plan carries the pinned value and
    never sets one itself. tunable: `tune` may measure other values.

    shapes_state: a state saved with one value cannot be restored with another one. False for addresses, threads,
    sampling, and for where and in which portions the same values are computed.

    without: values that need no flag in a build that lacks it. optional: in such a build it is left out, whatever its
    value: that changes no answer and no memory. needed: a build that lacks it cannot be used.
    """

    name: str
    aliases: tuple[str, ...]
    kind: ValueKind
    about: str
    negation: tuple[str, ...] = ()
    field: str = ""
    goal_field: str = ""
    always: bool = False
    pinnable: bool = False
    only_pinned: bool = False
    tunable: bool = False
    shapes_state: bool = True
    without: tuple[str, ...] = ()
    optional: bool = False
    needed: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        return (self.name, *self.aliases)

    @property
    def takes_value(self) -> bool:
        return bool(self.kind.hint)

    def words(self, value: Any) -> tuple[str, ...]:
        """The flag with this value as arguments; nothing for none, off, and for a zero that is not always written."""
        if not (value or (self.always and value is not None)):
            return ()
        return (self.name, self.kind.write(value)) if self.takes_value else (self.name,)


FLAGS: tuple[Flag, ...] = (
    # --- what a plan decides, in the order of its command line
    Flag("-m", ("--model",), FILE, "The GGUF file to serve; of a split model the first shard.", needed=True),
    Flag(
        "-a", ("--alias",), TEXT, "The name under which the server lists its model.",
        goal_field="alias", shapes_state=False, optional=True,
    ),
    Flag(
        "-c", ("--ctx-size",), number("a number of tokens"),
        "Tokens of context, prompt and answer together, for all slots. The cache grows with it; it is never "
        "shortened silently.",
        field="ctx", always=True, pinnable=True,
    ),
    Flag(
        "--rope-scaling", (), ROPE_SCALING,
        "How positions beyond the training length are made: yarn stretches what the model knows. The scale is the same "
        "for a short prompt, which is then answered a little worse; what was saved without it can't be restored.",
        field="rope_scaling", pinnable=True,
    ),
    Flag("--rope-scale", (), ValueKind("N"), "By how much the positions are stretched."),
    Flag("--yarn-orig-ctx", (), NUMBER, "The training length that YaRN starts from."),
    Flag(
        "-np", ("--parallel",), number("a number of slots"),
        "Slots: conversations answered at the same time. Each gets an equal part of -c.",
        field="parallel", always=True, pinnable=True,
    ),
    Flag(
        "-kvu", ("--kv-unified",), SWITCH,
        "One cache for all slots. Sliding windows then share one batch of spare cells, but every conversation's "
        "attention passes over the others' cells, and the mask grows with -np.",
        negation=("-no-kvu", "--no-kv-unified"), field="kv_unified", pinnable=True,
    ),
    Flag(
        "-ngl", ("--gpu-layers", "--n-gpu-layers"), number("a number of layers, or all", zero=True),
        "How many layers are on the GPU. llama.cpp counts the output first and then the blocks from the last "
        "one, so N means the output and the last N-1 blocks. A block in RAM is read whole for every token.",
        field="ngl", always=True, pinnable=True, shapes_state=False,
    ),
    Flag(
        "-dev", ("--device",), DEVICES,
        "The devices to compute on, as --list-devices names them; none leaves every GPU alone. A plan always names "
        "them: without it llama.cpp takes all that it sees at its start.",
        field="devices", pinnable=True, shapes_state=False,
    ),
    Flag(
        "-ncmoe", ("--n-cpu-moe",), number("a number of blocks", zero=True),
        "Keeps the experts of the first N blocks in RAM; attention, cache and shared experts stay on the GPU. "
        "A token reads only the experts it is routed to, so this costs far less than whole blocks in RAM.",
        field="ncmoe", pinnable=True, tunable=True, shapes_state=False, without=("0",),
    ),
    Flag(
        "--moe-cache-mib", (), number("MiB"),
        "Memory of the GPU for those experts in RAM that are in use. A miss crosses the bus before its token goes on: "
        "a cache below the working set costs more than it gains. From b11480 on.",
        field="moe_cache_mib", pinnable=True, only_pinned=True, tunable=True, shapes_state=False,
    ),
    Flag(
        "-ncffn", ("--n-cpu-ffn",), number("a number of blocks", zero=True),
        "Keeps the feed-forward weights of the first N blocks in RAM; attention and cache stay on the GPU.",
        field="ncffn", pinnable=True, shapes_state=False, without=("0",),
    ),
    Flag(
        "-nkvo", ("--no-kv-offload",), SWITCH,
        "Keeps the cache in RAM. Attention still runs on the GPU, so each block's whole live cache crosses the "
        "bus at every step; a recurrent state is then updated by the CPU.",
        negation=("-kvo", "--kv-offload"), field="nkvo", pinnable=True, shapes_state=False,
    ),
    Flag(
        "-ts", ("--tensor-split",), SHARES, "The share of the layers that each GPU gets.",
        field="split", pinnable=True, shapes_state=False,
    ),
    Flag(
        "-ctk", ("--cache-type-k",), KV_TYPE,
        "The type of the cache. q4_0 takes 4.5 bits a value, q8_0 8.5, f16 16. Without a GPU, threads read f16 in "
        "tiles and a quantised cache row by row: a long prompt then takes several times as long.",
        field="type_k", always=True, pinnable=True, tunable=True,
    ),
    Flag(
        "-ctv", ("--cache-type-v",), KV_TYPE,
        "The type of the cache's values; a pair of two different types has no fast kernel.",
        field="type_v", always=True, pinnable=True,
    ),
    Flag("-fa", ("--flash-attn",), ON_OFF_AUTO, "Flash attention; a cache with quantised values needs it."),
    Flag(
        "-b", ("--batch-size",), number("a number of tokens"),
        "The most tokens that are handed to the model at once; at least -ub.",
        field="batch", always=True, pinnable=True, shapes_state=False,
    ),
    Flag(
        "-ub", ("--ubatch-size",), number("a number of tokens"),
        "How many prompt tokens one pass computes. Weights in RAM cross to the GPU once per pass, so a larger "
        "one reads a long prompt faster and takes larger buffers.",
        field="ubatch", always=True, pinnable=True, tunable=True, shapes_state=False,
    ),
    Flag(
        "-lm", ("--load-mode",), LOAD_MODE,
        "How weights get into memory: mmap maps the file, none reads it (into pinned memory where a GPU is).",
        field="load_mode", always=True, pinnable=True, tunable=True, shapes_state=False, without=("auto", "mmap"),
    ),
    Flag(
        "-cram", ("--cache-ram",), number("MiB", zero=True),
        "RAM for the prompts of other conversations. llama-server takes 8192 MiB unless told otherwise, and "
        "no estimate of its own counts it.",
        field="cache_ram_mib", always=True, pinnable=True, shapes_state=False, without=("0",),
    ),
    Flag(
        "-ctxcp", ("--ctx-checkpoints", "--swa-checkpoints"), number("a number", zero=True),
        "Checkpoints of the state per slot. A recurrent or windowed cache cannot be rolled back, so a changed "
        "prompt goes back to the last one. They come on top of -cram.",
        field="checkpoints", always=True, pinnable=True, shapes_state=False, without=("0",),
    ),
    Flag(
        "--swa-full", (), SWITCH,
        "Keeps the whole history of sliding-window blocks. Without it a saved prompt cannot be restored "
        "after a restart: llama-server reads it again.",
        field="swa_full", pinnable=True,
    ),
    Flag("--spec-type", (), ValueKind("TYPE,..."), "What drafts tokens that one pass then checks."),
    Flag(
        "-md", ("--model-draft", "--spec-draft-model"), DRAFT_MODEL,
        "A small model with the same vocabulary that guesses ahead (speculative decoding). It has a cache of its "
        "own for the whole context and reads every prompt too.",
        field="drafter", pinnable=True,
    ),
    Flag(
        "-ngld", ("--gpu-layers-draft", "--n-gpu-layers-draft", "--spec-draft-ngl"), NUMBER,
        "How many layers of the draft model are on the GPU.",
    ),
    Flag(
        "-devd", ("--device-draft", "--spec-draft-device"), DEVICES, "The devices of the draft model.",
        shapes_state=False,
    ),
    Flag("-ctkd", ("--cache-type-k-draft", "--spec-draft-type-k"), KV_TYPE, "The type of the draft model's cache."),
    Flag("-ctvd", ("--cache-type-v-draft", "--spec-draft-type-v"), KV_TYPE, "The type of its cache's values."),
    Flag(
        "--spec-draft-n-max", (), number("tokens to draft, 0 for none", zero=True),
        "How many tokens the file's own prediction block, or a second model, guesses ahead; one pass "
        "checks them all.",
        field="draft_max", pinnable=True, tunable=True,
    ),
    Flag(
        "--spec-draft-p-min", ("--draft-p-min",), ValueKind("P"),
        "A draft ends before the first token that the draft model gives a smaller probability.",
    ),
    Flag(
        "--spec-ngram-mod-n-max", (), number("tokens to draft, 0 for none", zero=True),
        "Guesses ahead what the conversation itself held before, in runs of up to this many tokens: an answer that "
        "repeats a file it has just read comes faster, any other as before. No second model.",
        field="ngram_max", pinnable=True, only_pinned=True, tunable=True, shapes_state=False,
    ),
    Flag("--spec-ngram-mod-n-min", (), NUMBER, "The shortest such run that is worth a pass.", shapes_state=False),
    Flag("--spec-ngram-mod-n-match", (), NUMBER, "How many tokens must be the same before it.", shapes_state=False),
    Flag("-mm", ("--mmproj",), ValueKind("FILE"), "The image encoder's file.", goal_field="mmproj_path"),
    Flag(
        "--no-repack", ("-nr",), SWITCH, "Leaves weights in RAM as they are in the file.",
        negation=("--repack",), field="no_repack",
    ),
    Flag(
        "-t", ("--threads",), number("a number of threads"),
        "CPU threads. More than physical cores wait for the same memory.",
        field="threads", pinnable=True, tunable=True, shapes_state=False,
    ),
    Flag(
        "-tb", ("--threads-batch",), number("a number of threads"),
        "CPU threads for prompts, as many as -t unless set. The predicted speeds assume one for each physical core.",
        field="threads_batch", pinnable=True, only_pinned=True, shapes_state=False,
    ),
    Flag(
        "-n", ("--predict", "--n-predict"), number("a number of tokens"), "The most tokens of one answer.",
        goal_field="n_predict", always=True, pinnable=True, shapes_state=False,
    ),
    Flag(
        "-rea", ("--reasoning",), ON_OFF_AUTO, "Whether the model thinks before it answers.",
        goal_field="reasoning", always=True, pinnable=True, shapes_state=False, without=("auto",),
    ),
    Flag("--reasoning-budget", (), NUMBER, "The most tokens of thinking; 0 ends it at once."),
    Flag(
        "--jinja", (), SWITCH, "Renders prompts with the model's own template: tool calls need it.",
        negation=("--no-jinja",), needed=True,
    ),
    Flag(
        "--fit", ("-fit",), ValueKind("[on|off]"), "Whether llama-server itself sets what is not set.",
        shapes_state=False, without=("off",),
    ),
    # --- placement and memory, by hand
    Flag(
        "-ot", ("--override-tensor",), ValueKind("<tensor name pattern>=<buffer type>,..."),
        "Puts tensors by name into another memory.", shapes_state=False,
    ),
    Flag("-cmoe", ("--cpu-moe",), SWITCH, "Keeps the experts of all blocks in RAM."),
    Flag(
        "-sm", ("--split-mode",), ValueKind("{none,layer,row,tensor}"), "How a model is divided among several GPUs.",
        shapes_state=False,
    ),
    Flag("-mg", ("--main-gpu",), ValueKind("INDEX"), "The GPU that computes what is not divided.", shapes_state=False),
    Flag("--no-mmproj", ("--no-mmproj-auto",), SWITCH, "Loads no image encoder.", negation=("--mmproj-auto",)),
    Flag("--warmup", (), SWITCH, "Runs an empty pass at the start.", negation=("--no-warmup",), shapes_state=False),
    # --- prompts and their caches
    Flag(
        "-cms", ("--checkpoint-min-step",), NUMBER, "The fewest tokens between two checkpoints.", shapes_state=False
    ),
    Flag(
        "--cache-idle-slots", (), SWITCH, "Moves an idle slot's prompt into the RAM that -cram gives.",
        negation=("--no-cache-idle-slots",), optional=True,
    ),
    Flag("--cache-reuse", (), NUMBER, "The smallest piece of an old prompt that is moved to where a new one has it."),
    Flag("-sps", ("--slot-prompt-similarity",), ValueKind("SIMILARITY"), "How alike a prompt and a slot's must be."),
    Flag("--reasoning-format", (), ValueKind("FORMAT"), "Where thoughts go in an answer."),
    Flag("--chat-template", (), ValueKind("JINJA_TEMPLATE"), "A chat template instead of the model's own."),
    Flag(
        "--chat-template-file", (), TEMPLATE_FILE, "A chat template from a file instead of the model's own.",
        goal_field="chat_template_file", pinnable=True,
    ),
    Flag("--chat-template-kwargs", (), TEXT, "Values for the chat template, as a JSON object."),
    Flag("--spec-draft-n-min", (), NUMBER, "The fewest tokens that are worth a pass to check them."),
    # --- sampling: defaults for requests that set none. The two penalties are no part of a state either, but the
    # folders of saved states are named by them.
    Flag("-s", ("--seed",), ValueKind("SEED"), "The seed of sampling.", shapes_state=False),
    Flag("--temp", ("--temperature",), NUMBER, "The temperature of sampling.", shapes_state=False),
    Flag("--top-k", (), NUMBER, "Samples among the K likeliest tokens.", shapes_state=False),
    Flag("--top-p", (), NUMBER, "Samples among the likeliest tokens that make up P.", shapes_state=False),
    Flag("--min-p", (), NUMBER, "Leaves out tokens below this share of the likeliest one.", shapes_state=False),
    Flag("--repeat-penalty", (), NUMBER, "Makes tokens that were there less likely."),
    Flag("--presence-penalty", (), NUMBER, "The same, by one amount however often they were there."),
    # --- the server
    Flag("--host", (), ValueKind("HOST"), "The address to listen on.", shapes_state=False, needed=True),
    Flag("--port", (), ValueKind("PORT"), "The port to listen on.", shapes_state=False, needed=True),
    Flag("--api-key-file", (), FILE, "The file with the keys of the server.", shapes_state=False, needed=True),
    Flag("--slot-save-path", (), ValueKind("PATH"), "The folder of saved states.", shapes_state=False, needed=True),
    Flag(
        "--slots", (), SWITCH, "Answers GET /slots.", negation=("--no-slots",), shapes_state=False, needed=True
    ),
    Flag("--metrics", (), SWITCH, "Answers GET /metrics.", shapes_state=False, needed=True),
    Flag("-to", ("--timeout",), NUMBER, "Seconds after which a silent connection is closed.", shapes_state=False),
    Flag("--threads-http", (), NUMBER, "Threads that answer requests.", shapes_state=False),
    Flag(
        "--sse-ping-interval", (), NUMBER, "Seconds between comments in a stream that is silent.",
        shapes_state=False, optional=True,
    ),
    Flag(
        # a build without it answers every page, but the key is what a page does not have
        "--cors-origins", (), ValueKind("ORIGINS"), "The web pages that may call the server.", shapes_state=False,
        optional=True,
    ),
    Flag(
        "--no-ui", ("--no-webui",), SWITCH, "Serves no web page.",
        negation=("--ui", "--webui"), shapes_state=False, optional=True,
    ),
    Flag("-lv", ("--verbosity", "--log-verbosity"), NUMBER, "How much is logged.", shapes_state=False),
    Flag("--log-jsonl", (), SWITCH, "Logs JSON, one object a line.", negation=("--no-log-jsonl",), optional=True),
    Flag("--no-perf", (), SWITCH, "Takes no timings inside llama.cpp.", negation=("--perf",), optional=True),
)  # fmt: skip

# Flags that llama-server had once, and what does the same today.
REMOVED = {
    "--mlock": "-lm mlock",
    "--no-mmap": "-lm none",
    "--draft": "--spec-draft-n-max",
    "--draft-max": "--spec-draft-n-max",
}

TUNABLE = tuple(flag for flag in FLAGS if flag.tunable)
NEEDED = tuple(flag for flag in FLAGS if flag.needed)

_BY_NAME = {name: flag for flag in FLAGS for name in (*flag.names, *flag.negation)}
_BY_FIELD = {flag.field or flag.goal_field: flag for flag in FLAGS if flag.field or flag.goal_field}
_PINNABLE = {name.lstrip("-"): flag for flag in FLAGS if flag.pinnable for name in flag.names}


def flag_named(name: str) -> Flag | None:
    """The flag of this name, or the one that a switch of this name undoes."""
    return _BY_NAME.get(name)


def flag_of(field: str) -> Flag:
    """The flag of this field of a plan's assignment or goal. Raises KeyError when the field has none."""
    return _BY_FIELD[field]


def pinnable_flag(name: str) -> Flag | None:
    """The flag that `--set NAME=VALUE` fixes, NAME with or without dashes."""
    return _PINNABLE.get(name.lstrip("-"))
