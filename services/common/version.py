"""The version of Bindery: the one place that says it. The wheel, the images and `/versions` take it from here."""

VERSION = "0.1.0"
