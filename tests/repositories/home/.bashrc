export SAID_BY_BASHRC=yes
