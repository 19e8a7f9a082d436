"""Variational auto-encoders as Pyro programs: the command line, `vampyro.cli`, from a checkout.

python run.py                                        a VAE on 5,000 digits, from data to plots
python run.py --prior vamp --flow planar:5           with a VampPrior over planar-flow posteriors
python run.py --help                                 every flag and its default
"""

import sys

from vampyro.cli import main

if __name__ == "__main__":
    sys.exit(main())
