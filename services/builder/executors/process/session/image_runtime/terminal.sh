# What bash reads first in a terminal of a server. A login shell would read /etc/profile too, which replaces PATH on many
# systems, and with it the image's Python.
for file in ~/.bash_profile ~/.bash_login ~/.profile ~/.bashrc; do
    if [ -r "$file" ]; then
        . "$file"
        break
    fi
done
unset file
