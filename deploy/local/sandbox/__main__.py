"""`python -m deploy.local.sandbox`."""

import sys

from deploy.local.sandbox.process import main

sys.exit(main())
