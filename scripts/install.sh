#!/usr/bin/env bash
# Installs tools that are missing, by apt: scripts/install.sh make cc shellcheck
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
# shellcheck source=scripts/services/install.sh
source "$here/services/install.sh"

install_missing "$@"
