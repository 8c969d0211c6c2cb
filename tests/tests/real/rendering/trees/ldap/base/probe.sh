#!/bin/sh
exec ldapsearch -x "$@" ${HOST:-localhost}
