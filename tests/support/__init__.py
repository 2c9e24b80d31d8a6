"""What tests share. The first word of a file's name says what kind of thing it is.

| name | what it is |
| --- | --- |
| `in_process_*` | one service in the test's process, on a real Redis, and what a test asks of it |
| `scripted_*` | a stand-in whose answers a test gives, one by one |
| `fake_*`, `forge*` | a stand-in that behaves by itself as the real thing does |
| `sample_*` | records and builds that several tests use |
| `case*`, `verifying` | the folders of `tests/repositories`: read, made into repositories, launched, and verified |
| `*stack*` | processes started by `bindery up`: all of them, others in some one's place, or small parts |
| `builder_processes`, `starting_*`, `ending_*` | processes of single services: to work, or to fail at start or end |
| `launching`, `installed` | a client of any Bindery that runs, and of a launch's stream; one in containers or pods |
| `compose_*` | docker-compose.yml: the program, stand-ins for what can't be pulled, and a stack of it |
| `real_hub`, `hub_*`, `brief_*` | a real JupyterHub: with real servers, or with servers that cost no process |
| `zero_to_jupyterhub*` | the values and the hub's configuration as the chart of that name has them |
| `engine*`, `service_images`, `docker_registry` | a container engine, its images, ours, and a registry |
| `cluster*`, `container_clusters` | a Kubernetes cluster: found, started, checked, and used |
| `faults*`, `full_chain`, `api_launches`, `leftovers` | what the tests of whole stacks launch, and what may not stay |

The rest are small tools, each of them one file:

- waiting: `polling` (until a condition holds), `launch_followers` (a client of a launch's stream), `topic_followers`
  (of one topic's); `logs` (what was logged), `unread_errors` (what no task has read);
- Redis: `valkey` (a server, and its fixtures), `sentinel` (servers behind Sentinels), `redis_faults` (what goes wrong
  with it), `far_redis` (one behind a cable that can be cut), `black_hole` (one that has gone without a word),
  `settings` (checked settings); `postgres` (a server of the other kind);
- HTTP: `serving` (an application on a port), `echo_app`, `metrics`, `tls`, `ports`, `registry_token_server`;
- on the way: `tcp_proxy`, `slow_tcp_proxy`, `tls_front`, `forward_proxy`, `watch_proxy` (cuts and silences watches),
  `routed_network` (a router between a client and a server);
- Kubernetes without a cluster: `kubernetes_api` (for the builder), `pods_api` and `spawners` (for the hub);
- the chart: `helm`, `releases` and `helm_release` (installations on the cluster), `release_objects` (what one has made
  there), `chart_trial` (values that may not do), `manifest_schemas` (is a manifest valid), `crds` (the custom resources
  it may use), `network_policies` and `label_selectors` (who may reach whom);
- workers by the queue: `prometheus`, `keda`, `scaling_watch`; `jobs_made` (every Job of a namespace);
- servers: `quick_jupyter`, `kernels`; repositories: `bare_repos`, `lfs_*`, `checkouts` and `checkout_git` (of a build);
- packages: `wheels`, `pip_parser` (pip's own reading of a file), `conda_*` (a channel, what is in it, installs);
- other APIs: `archives`, `deposits` and `archive_datasets` (of research data), `provider_*` (the upstream of each
  provider of the resolver, and the table of what it answers), `repo2docker_*` (what its own content providers make
  of those), `gitea_recording` (what a real Gitea answered);
- pytest: `parallel`, `paths`, `other_user` (to do something as somebody who is not root),
  `long_tests` (what `make test-long` selects, and its table); `go_toolchain` (to build programs, and to read modules);
- docs: `page_commands` (the commands of a page, typed one after another).
"""
