#!/bin/sh
# Build the images of Bindery, and push them if asked to: `make images` runs this, and docs/images.md explains its
# variables IMAGES, TAG, PUSH, BASE, REPO2DOCKER_BASE, SOURCE and BUILD_OPTIONS.
set -eu
cd "$(dirname "$0")/../.."

ALL="gateway resolver builder launcher hub repo2docker"
LOCAL=localhost/bindery/

say() { printf '%s\n' "$*" >&2; }
give_up() { say "make images: $*"; exit 1; }

check_names() {
    for name in $IMAGES; do
        case " $ALL " in
            *" $name "*) ;;
            *) give_up "there is no image $name: IMAGES has some of $ALL." ;;
        esac
    done
    case $TAG in
        *[!A-Za-z0-9_.-]* | [.-]*) give_up "TAG=$TAG is not a tag: write letters, digits, dots, dashes and underscores." ;;
    esac
    case $PUSH in
        *://*) give_up "PUSH=$PUSH begins with a scheme: write the registry as in names of images, PUSH=registry.example.org/x/." ;;
        *[!a-z0-9._:/-]*) give_up "PUSH=$PUSH can't begin the name of an image: write it in lower case, as in PUSH=registry.example.org/x/." ;;
    esac
}

check_engine() {
    command -v docker >/dev/null 2>&1 ||
        give_up "there is no program docker here: install Docker (Debian, Ubuntu: sudo apt-get install docker.io)."
    problem=$(docker version 2>&1 >/dev/null) && return
    case $problem in
        *"permission denied"*) give_up "your user may not open the engine's socket: run it with sudo, or join the socket's group (sudo usermod -aG docker \$USER, then log in again)." ;;
        *) give_up "no container engine answers: start Docker (sudo systemctl start docker), or set DOCKER_HOST. It says: $problem" ;;
    esac
}

in_git() { git -c safe.directory='*' "$@" 2>/dev/null; }

describe_checkout() {
    version=$(sed -n 's/^VERSION = "\(.*\)"$/\1/p' services/common/version.py)
    revision=$(in_git rev-parse HEAD || echo unknown)
    changed=""
    [ "$revision" = unknown ] || [ -z "$(in_git status --porcelain)" ] || changed=-changed
    if [ -z "$SOURCE" ]; then
        # A login in the address is nobody else's business.
        SOURCE=$(in_git remote get-url origin | sed -n 's#^\(https\{0,1\}://\)\([^/@]*@\)\{0,1\}#\1#p' || true)
    fi
}

# A version's name is for its release alone; anything else is pushed under its commit.
tag_of_push() {
    if [ -n "$TAG" ]; then
        echo "$TAG"
    elif [ "$revision" = unknown ] || { [ -z "$changed" ] && in_git tag --points-at HEAD | grep -qxF -e "v$version" -e "$version"; }; then
        echo "$version"
    else
        echo "$(echo "$revision" | cut -c1-12)$changed"
    fi
}

build() { # name
    base=$BASE
    set -- "$1" --file deploy/images/Dockerfile --target "$1" .
    if [ "$1" = repo2docker ]; then
        base=$REPO2DOCKER_BASE
        set -- "$1" deploy/images/repo2docker
    fi
    name=$1
    shift
    say "Building $LOCAL$name:${TAG:-local}"
    # shellcheck disable=SC2086  # BUILD_OPTIONS is a list of words
    docker build --tag "$LOCAL$name:${TAG:-local}" ${base:+--build-arg "BASE=$base"} --build-arg "VERSION=$version" \
        --build-arg "REVISION=$revision$changed" --build-arg "SOURCE=$SOURCE" $BUILD_OPTIONS "$@" ||
        give_up "$name could not be built: the lines above say why. For an engine that reaches registries or package archives only through a proxy, see docs/images.md."
}

push() { # name
    docker tag "$LOCAL$1:${TAG:-local}" "$PUSH$1:$push_tag"
    docker push "$PUSH$1:$push_tag" ||
        give_up "$PUSH$1:$push_tag could not be pushed: if it was denied, log in first (docker login ${PUSH%%/*})."
}

IMAGES=${IMAGES:-$ALL} TAG=${TAG:-} PUSH=${PUSH:-} BASE=${BASE:-} REPO2DOCKER_BASE=${REPO2DOCKER_BASE:-}
SOURCE=${SOURCE:-} BUILD_OPTIONS=${BUILD_OPTIONS:-}
PUSH=${PUSH%/}${PUSH:+/}

check_names
check_engine
describe_checkout
for name in $IMAGES; do build "$name"; done

if [ -n "$PUSH" ]; then
    push_tag=$(tag_of_push)
    for name in $IMAGES; do push "$name"; done
fi

for name in $IMAGES; do
    megabytes=$(($(docker image inspect --format '{{.Size}}' "$LOCAL$name:${TAG:-local}") / 1000000))
    printf '%-44s %5d MB\n' "$LOCAL$name:${TAG:-local}" "$megabytes"
    [ -z "$PUSH" ] || printf '  pushed: %s\n' "$PUSH$name:$push_tag"
done
