"""Help texts of two builds and of a fork, each in its own layout, shortened to the flags the stack uses."""

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

# The layout of ik_llama.cpp (gpt_params_print_usage): columns 2 and 9, several spaces behind a comma, the words of -rea
# in the place of a description. No --slots, only what undoes it; no --load-mode, --alias, --cache-idle-slots.
FORK = """\
usage: llama-server [options]

general:

         --verbosity N            how much is said
  -c,    --ctx-size N             tokens of context
  -ub,   --ubatch-size N          tokens of one pass
  -b,    --batch-size N           tokens handed over at once
  -t,    --threads N              threads
  --ctx-checkpoints N             checkpoints of a slot
  -cram, --cache-ram N            MiB for prompts
  -fa, --flash-attn (auto|on|off|0|1)
                                  fast attention
  -mla,  --mla-use                latent attention
  -amb,  --attention-max-batch    a bound for its buffers
  -ser,  --smart-expert-reduction fewer experts
  -no-fmoe, --no-fused-moe        experts in single steps
         --run-time-repack        another order of the weights
  -n,    --predict N              tokens of an answer
         --jinja                  the model's own template
  -rea,  --reasoning              [on|off|auto]
         --reasoning-budget N     tokens of thinking
         --chat-template-kwargs JSON
                                  values for the template
  -nkvo, --no-kv-offload          the cache stays in RAM
  -ctk,  --cache-type-k TYPE      its type
  -ctv,  --cache-type-v TYPE      its other type
  -np,   --parallel N             slots
         --mlock                  keeps the weights in RAM
         --no-mmap                reads the file
         --n-cpu-moe N            experts of N layers in RAM
         --fit                    finds a placement
  -ngl,  --gpu-layers N           layers on the card
  -dev,   --device dev1,dev2      which cards, one of
                                    - none: no card
  -m,    --model FNAME            the file
         --host HOST              address
         --port PORT              port
         --api-key-file FNAME     keys
         --timeout N              seconds
         --metrics                figures
         --no-slots               hides the slots
         --slot-save-path PATH    folder of states
"""
