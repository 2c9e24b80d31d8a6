"""`bindery hub-values`."""

from typing import Annotated

from cyclopts import Parameter

from bindery.cli.checkout import checkout
from bindery.cli.terminal import CommandError

Namespace = Annotated[str, Parameter(help="Namespace of the hub's release.")]
BinderyNamespace = Annotated[str, Parameter(help="Namespace of Bindery's release, whose launcher reaches the hub.")]
AllowedOrigins = Annotated[
    str,
    Parameter(
        help="Web sites whose pages may use the servers, with commas between them: https://example.org; * for all.",
        show_default=False,
    ),
]
IdleTimeout = Annotated[int, Parameter(help="Seconds after which an unused server is ended; 0: never.")]
MaxAge = Annotated[int, Parameter(help="Seconds after which any server is ended; 0: never.")]
MemoryGuarantee = Annotated[str, Parameter(help="Memory that is reserved for a server without a resource class.")]
MemoryLimit = Annotated[str, Parameter(help="Memory that a server without a resource class may use.")]
StartTimeout = Annotated[int, Parameter(help="Seconds that a running server may take to answer.")]
StartMax = Annotated[int, Parameter(help="Seconds that a whole start may take, with the pull of the image.")]
ConcurrentSpawns = Annotated[int, Parameter(help="Number of servers that the hub starts at once.")]
ImagePullSecret = Annotated[
    list[str],
    Parameter(
        help="Secret in the hub's namespace, by which nodes pull images of a private registry. May be repeated.",
        negative="",
        show_default=False,
    ),
]
TokenSecret = Annotated[
    str,
    Parameter(
        help="Secret of yours in the hub's namespace that has the launcher's token, under the key "
        "hub.services.bindery-launcher.apiToken. Without it the hub's chart makes a token.",
        show_default=False,
    ),
]


def hub_values(
    *,
    namespace: Namespace = "jupyterhub",
    bindery_namespace: BinderyNamespace = "bindery",
    allowed_origins: AllowedOrigins = "",
    idle_timeout: IdleTimeout = 600,
    max_age: MaxAge = 6 * 3600,
    memory_guarantee: MemoryGuarantee = "512M",
    memory_limit: MemoryLimit = "2G",
    start_timeout: StartTimeout = 120,
    start_max: StartMax = 1800,
    concurrent_spawns: ConcurrentSpawns = 100,
    image_pull_secret: ImagePullSecret = [],  # noqa: B006 - the list is only read
    token_secret: TokenSecret = "",
) -> None:
    """Print Helm values for a hub of zero-to-jupyterhub that starts Bindery's servers."""
    with checkout("hub-values", target="hub-values"):
        from deploy.zero_to_jupyterhub.options import OptionError, Options
        from deploy.zero_to_jupyterhub.values import values_text

        try:
            options = Options(
                namespace=namespace,
                bindery_namespace=bindery_namespace,
                allowed_origins=allowed_origins,
                idle_timeout_seconds=idle_timeout,
                max_age_seconds=max_age,
                memory_guarantee=memory_guarantee,
                memory_limit=memory_limit,
                start_timeout_seconds=start_timeout,
                start_max_seconds=start_max,
                concurrent_spawns=concurrent_spawns,
                image_pull_secrets=tuple(image_pull_secret),
                token_secret=token_secret,
            )
        except OptionError as error:
            raise CommandError(str(error)) from error

        print(values_text(options), end="")
