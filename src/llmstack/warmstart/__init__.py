"""Warm start: what a server has computed of a prompt is saved, and restored when it is needed again.

A snapshot is one file that llama-server wrote a slot to (POST /slots/N?action=save): the tokens of a prompt, and the
KV cells or the recurrent state computed from them. It may be restored only into a server with the same fingerprint.
Its life:

    computed   a request with a new prefix, or a quiet moment after a start
       |       policy -> manager -> SlotServer.prefill: to the prefix's end exactly
       v
    saved      Store.begin (an empty file, 0600) -> SlotServer.save -> Store.finish: length, tokens, digest, and last
       |       the description. Before that it is not there for anybody; a sweep removes what a killed save left
       v
    restored   Store.usable (folder, fingerprint) -> Store.intact (digest) -> SlotServer.restore
       |       at a server's start, or before a request that it helps; what has to make room is saved first
       v
    removed    by a newer one of the same key, by the budget (least recently used first), by a fault (and the log says
               which), by `llmstack cache clear`

| module       | what it does                                                                               |
| ------------ | ------------------------------------------------------------------------------------------ |
| policy       | every decision, pure: a table, and observations into actions                               |
| observations | what the policy is told                                                                    |
| actions      | what the policy may have done                                                              |
| manager      | observes and acts: one per server, the only one that changes what is remembered of it      |
| errand       | what a chain of actions is about, and what its looks have brought                          |
| slots        | the slots of one process of the server: save, restore, what they hold                      |
| status       | how far it is, for `status` and /health                                                    |
| interface    | SlotServer: what is needed of a server; proxy/slot_server.py speaks it over HTTP           |
| store        | the files of saved states: complete pairs, digests, budget                                 |
| statefile    | the token ids at the head of a file that llama-server wrote                                |
| fingerprint  | what a state belongs to; the record of the running server                                  |
| prefix       | where a prefix ends, in bytes and in tokens; what a saved state is worth. Pure             |
| toolcalls    | the tool calls as the model generated them, kept over a restart of the proxy               |
| audit        | what of a prompt was reused, and where and why the rest was not. Pure                      |
"""
