"""Why a build failed, in the words of its log: the same for all executors, since it reads what was relayed."""
