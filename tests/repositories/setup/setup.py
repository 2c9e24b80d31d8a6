from setuptools import setup

setup(name="orchard", version="1", py_modules=["orchard"], install_requires=["cowsay"])
