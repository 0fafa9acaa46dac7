"""Help texts of two builds, in the layout of llama-server, shortened to the flags the stack uses."""

MODERN = """\
----- common params -----

-m,    --model FNAME                    model path
-c,    --ctx-size N                     size of the prompt context (default: 0)
                                        (env: LLAMA_ARG_CTX_SIZE)
-ub,   --ubatch-size N                  physical maximum batch size (default: 512)
-fa,   --flash-attn [on|off|auto]       set Flash Attention use (default: 'auto')
-lm,   --load-mode MODE                 model loading mode (default: auto)
-ctk,  --cache-type-k TYPE              KV cache data type for K
-ngl,  --gpu-layers, --n-gpu-layers N   max. number of layers to store in VRAM
-ncmoe, --n-cpu-moe N                   keep the MoE weights of the first N layers in the CPU
-kvo,  --kv-offload, -nkvo, --no-kv-offload
                                        whether to enable KV cache offloading (default: enabled)
-ot,   --override-tensor <tensor name pattern>=<buffer type>,...
                                        override tensor buffer type
-fit,  --fit [on|off]                   whether to adjust unset arguments to fit in device memory
-rea,  --reasoning [on|off|auto]        use reasoning in the chat
-cram, --cache-ram N                    set the maximum cache size in MiB
--sse-ping-interval N                   seconds between comments
--chat-template-kwargs STRING           parameters for the template
--ui, --webui, --no-ui, --no-webui      whether to enable the Web UI
--slots, --no-slots                     expose slots monitoring endpoint
--slot-save-path PATH                   path to save slot kv cache
--metrics                               enable prometheus metrics endpoint
--jinja, --no-jinja                     use jinja template
--host HOST                             ip address to listen
--port PORT                             port to listen
--api-key-file FNAME                    path to file containing API keys
"""

OLDER = """\
usage: llama-server [options]

-m,    --model FNAME                    model path
-c,    --ctx-size N                     size of the prompt context
-ub,   --ubatch-size N                  physical maximum batch size
-fa,   --flash-attn                     enable Flash Attention (default: disabled)
--mlock                                 force system to keep model in RAM
--no-mmap                               do not memory-map model
-ctk,  --cache-type-k TYPE              KV cache data type for K
-ngl,  --gpu-layers, --n-gpu-layers N   number of layers to store in VRAM
-nkvo, --no-kv-offload                  disable KV offload
-ot,   --override-tensor <tensor name pattern>=<buffer type>,...
                                        override tensor buffer type
--chat-template-kwargs STRING           parameters for the template
--no-webui                              disable the Web UI
--slots                                 enable slots monitoring endpoint
--slot-save-path PATH                   path to save slot kv cache
--metrics                               enable prometheus metrics endpoint
--jinja                                 use jinja template
--host HOST                             ip address to listen
--port PORT                             port to listen
--api-key-file FNAME                    path to file containing API keys
"""
