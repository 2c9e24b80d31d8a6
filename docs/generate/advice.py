"""Advice about each error: the part of docs/errors.md that is not in the code."""

ADVICE = {
    "bad_request": "Correct the request; the detail names the field.",
    "request_too_large": "Send less: the detail says how much may be sent, as body (`BINDERY_REQUEST_MAX_BYTES`) or as "
    "line and headers (`BINDERY_HTTP_HEAD_MAX_BYTES`).",
    "request_timeout": "Send it again, faster. The operator sets `BINDERY_HTTP_HEAD_TIMEOUT_SECONDS` and "
    "`BINDERY_HTTP_BODY_TIMEOUT_SECONDS`.",
    "bad_spec": "Complete the link: the detail says which form it must have.",
    "unknown_provider": "Use one of the repository types that the detail lists.",
    "not_found": "Check the address. Launches and builds are forgotten after some days: launch again.",
    "forbidden": "Reload the page that the request came from, and send it again.",
    "cross_site": "Open the launch link itself instead of letting another site ask; or have the operator allow that "
    "site with `BINDERY_ALLOWED_ORIGINS`.",
    "unknown_host": "Open Bindery by the address that it printed.",
    "start_token_required": "Open the address that `make up` printed, with its `?token=…`; `make url` prints it again. "
    "Programs [send the token](api.md#the-start-token).",
    "unauthorized": "Give every service the same `BINDERY_SERVICE_TOKEN`.",
    "idempotency_mismatch": "Use a new key for each launch.",
    "idempotency_key_too_short": "Send a UUID, or 22 random characters.",
    "conflict": "Read the launch or build again; it has changed or ended in the meantime.",
    "cancelled": "Launch again if that was a mistake.",
    "abandoned": "Launch again and keep the page open, or start it as `detached` by the API.",
    "ref_not_found": "Check owner, name and ref for typing errors, and that the repository is public.",
    "address_not_allowed": "Use a repository with a public address. For one in a private network the operator opens "
    "that network with `BINDERY_ALLOWED_NETWORKS`.",
    "banned": "Ask the operator of this Bindery, for whom `bindery policy why LINK` says which rule it is; they ban "
    "and allow with `bindery ban` and `bindery allow`, `BINDERY_BANNED_SPECS` and `BINDERY_ALLOWED_SPECS`.",
    "provider_unavailable": "Wait and try again; check whether the host has an outage.",
    "rate_limited": "Wait as long as it says. The operator raises GitHub's limit with `BINDERY_GITHUB_ACCESS_TOKEN`.",
    "build_failed": "The detail begins with the line of the log that says why, if there is one that is known, or with "
    "the last lines of `postBuild`; the page links to it. Fix the repository, push, and launch again (or press Build "
    "again).",
    "unsupported_repository": "Describe the environment with the files that this builder supports "
    "([the list](authors.md)), or launch it on a BinderHub.",
    "python_unavailable": "Ask for one of the versions that the message lists, or have the operator install it or "
    "allow downloads (`BINDERY_PYTHON_DOWNLOADS`).",
    "repository_too_large": "Move large files out of the repository. The operator sets `BINDERY_FETCH_MAX_BYTES`.",
    "fetch_failed": "Try again; if it persists, check whether the host of the repository or of a submodule answers.",
    "build_timeout": "Make the installation or `postBuild` shorter. The operator sets "
    "`BINDERY_INSTALL_TIMEOUT_SECONDS`, `BINDERY_POSTBUILD_TIMEOUT_SECONDS` and `BINDERY_BUILD_TIMEOUT_SECONDS`.",
    "build_out_of_memory": "Install fewer or smaller packages.",
    "build_stalled": "It wrote no output for `BINDERY_BUILD_STALL_SECONDS`. The log's last lines show the step that "
    "hangs: one that waits for an answer, or a download that never ends.",
    "build_unschedulable": "The message says what the scheduler lacks: add nodes, or ask for less in the builder's "
    "resources, node selector and tolerations.",
    "build_quota_exceeded": "A ResourceQuota of the builds' namespace is used up: raise it, or lower "
    "`BINDERY_BUILD_CAPACITY`.",
    "builder_image_unavailable": "Check the name of the builder image, the pull secrets, and that nodes reach its "
    "registry; the worker's log has the engine's message.",
    "build_evicted": "The node ran out of memory or disk, or was drained: launch again; if it keeps happening, give "
    "builds resource requests that match their needs.",
    "engine_failed": "The detail has the engine's message: a full disk (`docker system prune`), or a network or mount "
    "that could not be set up. The engine's log says more.",
    "push_denied": "The credentials may not push under `BINDERY_IMAGE_PREFIX`: check the push Secret and what it "
    "grants.",
    "executor_unavailable": "The Kubernetes API server or the container engine did not answer for "
    "`BINDERY_OUTAGE_PATIENCE_SECONDS`; the worker's log has the error. Builds that were running continue there.",
    "build_lost": "Launch again. If it happens repeatedly, check the worker's log and the machine's memory.",
    "build_stopped": "Ask the operator of this Bindery why; launch again if they say so.",
    "build_queue_full": "Wait and try again. The operator adds workers (`BINDERY_WORKERS`, `BINDERY_BUILD_SLOTS`).",
    "builder_unavailable": "Check `logs/builder.log` in the data folder.",
    "registry_unavailable": "Check whether the registry answers; nothing is rebuilt in the meantime.",
    "redis_unavailable": "Try again in a moment. The operator checks `logs/redis.log` in the data folder, and reads "
    "[what to do](redis.md#when-redis-refuses-or-is-away).",
    "quota_exceeded": "Try again later. The operator sets `BINDERY_SEATS_TOTAL`.",
    "hub_unavailable": "Check `logs/hub.log` in the data folder.",
    "hub_busy": "Wait and try again. The operator compares `BINDERY_HUB_CONCURRENT_SPAWNS` with the hub's "
    "`concurrent_spawn_limit`, which should be larger, and checks for starts that hang.",
    "hub_refused": "The detail has the hub's own message; check `logs/hub.log` and the launcher's token.",
    "hub_token_refused": "Give the launcher a token (`BINDERY_HUB_API_TOKEN`) of a hub service with the scopes that "
    "[the page on hubs](hubs.md) lists; the detail says which are missing.",
    "resource_class_not_offered": "Ask for one of the classes that the detail lists, or for none.",
    "unknown_resource_class": "Define the class that the detail names in `BINDERY_RESOURCE_CLASSES`, or correct the "
    "repository's configuration.",
    "image_pull_failed": "Launch again: a missing image is built again.",
    "image_pull_denied": "Give the servers' namespace or engine credentials for the registry: an `imagePullSecret` of "
    "the hub's KubeSpawner, or `docker login` on the engine.",
    "image_pull_unreachable": "The nodes cannot reach the registry, or do not trust its certificate: the detail has "
    "their message. The builder may still be able to reach it.",
    "image_pull_timeout": "Launch again: part of the image is already on the node. The operator raises "
    "`BINDERY_IMAGE_PULL_TIMEOUT_SECONDS` and the hub's own `start_timeout`, or pulls large images in advance.",
    "server_unschedulable": "The detail says what the scheduler lacks: add nodes, or ask for less in the resource "
    "class, node selector and tolerations.",
    "server_quota_exceeded": "A ResourceQuota of the servers' namespace is full: raise it, or lower "
    "`BINDERY_SEATS_TOTAL` so that launches queue before they reach it.",
    "spawner_unavailable": "The engine (`BINDERY_DOCKER_HOST`) or the cluster's API does not answer the hub: check "
    "that it is running, and that the hub can reach it.",
    "server_not_set_up": "The node could not mount a volume, make the pod's network, or find a Secret that the pod "
    "names: the detail says which.",
    "server_evicted": "Launch again. The node ran short of memory or disk: raise what the resource class guarantees.",
    "server_out_of_memory": "Load less as the server starts (`start`, extensions), or have the operator give the "
    "repository a larger resource class.",
    "server_port_closed": "The server must listen on the port and address that it is given, below its base URL: check "
    'the `start` script, which must end with `exec "$@"`. The operator sets '
    "`BINDERY_SERVER_START_TIMEOUT_SECONDS`, or `answer_timeout_seconds` of the spawner.",
    "server_not_protected": "The launch's token must open the server, and nothing else: take `token` and `password`, "
    "`identity_provider_class` and `login_handler_class` out of the `start` script, the Dockerfile and Jupyter's "
    "configuration. A configuration file alone can't cause this: Bindery's own takes precedence.",
    "server_start_failed": "The detail holds the last lines of the server's log; often the cause is a `start` "
    "script, or a package that conflicts with Jupyter.",
    "server_start_timeout": "Make the `start` script shorter. The operator sets "
    "`BINDERY_SERVER_START_TIMEOUT_SECONDS`.",
    "server_unreachable": "The server runs, but the proxy did not lead to it for `BINDERY_SERVER_ROUTE_SECONDS`: check "
    "the proxy's log and address (`BINDERY_HUB_PROXY_URL`), and that it and the hub use the same file of routes.",
    "server_ended": "The proxy answers so for a server that is no more; there was no error. Launch again: what was not "
    "saved elsewhere is gone. The operator sets how long servers live ([more](hubs.md#how-long-servers-live)).",
    "launcher_unavailable": "Check `logs/launcher.log` in the data folder.",
    "resolver_unavailable": "Check `logs/resolver.log` in the data folder.",
    "overloaded": "Wait and try again. The operator adds gateways (`BINDERY_GATEWAYS`), or raises "
    "`BINDERY_HTTP_CONNECTIONS_MAX` where memory and open files (`ulimit -n`) allow it.",
    "gateway_unavailable": "Launch again: nothing was started. The gateway is starting, ending or being replaced, and "
    "this one or another one takes requests within seconds.",
    "launch_timeout": "Launch again. The operator sets `BINDERY_LAUNCH_TIMEOUT_SECONDS`.",
    "record_unreadable": "Launch again. The operator finds the reason in the log (`record_unreadable`, "
    "`record_unworkable`): a value in Redis was damaged, or a newer release wrote it "
    "([what to do](operators.md#a-record-that-is-damaged)).",
    "launch_lost": "Launch again. Redis came back without it after a failover or a restart, and the gateway that "
    "worked on it has ended too: the operator checks how Redis [keeps its data](redis.md).",
    "internal": "Try again, and report it with the `X-Request-ID` of the answer and the lines of the log around it.",
    "unknown": "Try again; the program that shows this error is older than the one that reported it.",
}
"""Advice about each code of the closed list."""
