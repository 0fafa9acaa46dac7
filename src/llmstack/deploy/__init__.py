"""Brings a plan to life: services, readiness, health, and the way back when something fails.

| module         | what it does                                                                |
| -------------- | --------------------------------------------------------------------------- |
| planning       | the only way from a request to a plan: `plan` stops behind it, `up` goes on |
| machine        | this machine, as every plan for it sees it                                  |
| machine_record | a machine that is planned for, as data                                      |
| model_goal     | what the catalog says of a model, as part of the goal                       |
| known_headers  | headers of the catalog's files, and where they are not what it says         |
| projector      | which image encoder a model gets                                            |
| tuned          | what `tune` found, which the next plan takes up                             |
| cross_check    | a plan beside what the engine's own programs say                            |
| demo_model     | makes the demo model on this machine                                        |
| prepare        | brings the model's files here, then plans: what should run                  |
| apply          | `up`, `down` and `restart`: all or nothing                                  |
| move_model     | the running stack on another file of its model                              |
| proxy_alone    | the proxy without a server                                                  |
| transaction    | what ran before, on disk until the new stack has proved itself              |
| services       | the two services, as data                                                   |
| supervisors    | who keeps the services running on this machine                              |
| addresses      | where a stack will listen, and what that needs: keys, a certificate         |
| ports          | where a stack may listen, and who holds a TCP port                          |
| listener       | who listens where our services should: no key goes to anybody else           |
| routes_in_force | whether the proxy goes by the models.toml of the user                      |
| client_keys    | keys for others: made, listed, rotated, revoked                             |
| reached_at     | what the proxy is called by, here and from other machines                   |
| keys           | the two secrets of a stack                                                  |
| waiting, ready | waits for what another process does; for a service that answers             |
| ensure_ready   | brings the stack to where a client can use it                               |
| kv_measured    | what `bench --quality` measured, which the next plan knows                  |
| acceptance     | how many guessed tokens held, which the next plan knows                     |
| health         | the health check: prefill, cache, decode, memory, one answer                |
| tools_shown    | whether the deployed model is shown a client's tools                        |
| expected_speed | what the deployed plan expects of a piece of work                           |
| observe        | what the running engine did, asked once for each start                      |
| load_log       | what the engine's log says of how it loaded a model                         |
| served         | what the engine did, against the plan: failures and warnings                |
| failure_causes | why a service died, from its last words                                     |
| status         | the state of the stack                                                      |
| outdated       | services that run other files of this package than are here                 |
| usage          | what the services hold, and the last bench                                  |
| warm           | the warm start, as the proxy is asked for it                                |
| foreground     | `up --foreground`                                                           |
| uninstall      | stops and removes everything                                                |
| removal        | removes our folders, over links and mounted disks                           |
"""
