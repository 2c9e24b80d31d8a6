"""The contract between services: one module for each entity. Models are frozen and ignore unknown fields."""

from services.common.models.base import RECORD_VERSION, Contract, Queue
from services.common.models.build import Build, BuildId, BuildInput, BuildRequest, BuildState, image_key
from services.common.models.build_queue import BuildQueue, WorkerSlots
from services.common.models.credential import GitCredential, ResolveRequest
from services.common.models.event import Event, Phase, TopicRef
from services.common.models.launch import Launch, LaunchId, LaunchOptions, LaunchState
from services.common.models.problem import Cause, Problem
from services.common.models.repo import ResolvedRepo, Visibility
from services.common.models.server import Server, ServerId, ServerRequest, ServerState
from services.common.models.site import MAX_CANDIDATE_REFS, Page, RefAnswer, RefQuestion, Site
from services.common.models.spec import Spec

__all__ = [
    "MAX_CANDIDATE_REFS",
    "RECORD_VERSION",
    "Build",
    "BuildId",
    "BuildInput",
    "BuildQueue",
    "BuildRequest",
    "BuildState",
    "Cause",
    "Contract",
    "Event",
    "GitCredential",
    "Launch",
    "LaunchId",
    "LaunchOptions",
    "LaunchState",
    "Page",
    "Phase",
    "Problem",
    "Queue",
    "RefAnswer",
    "RefQuestion",
    "ResolveRequest",
    "ResolvedRepo",
    "Server",
    "ServerId",
    "ServerRequest",
    "ServerState",
    "Site",
    "Spec",
    "TopicRef",
    "Visibility",
    "WorkerSlots",
    "image_key",
]
