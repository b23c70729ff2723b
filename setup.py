"Everything about the package is said in settings.ini; this reads it."
import shlex
from configparser import ConfigParser
from pathlib import Path
from setuptools import setup, find_packages

cfg = ConfigParser(delimiters=['='])
cfg.read('settings.ini', encoding='utf-8')
cfg = cfg['DEFAULT']

minor = int(cfg['min_python'].split('.')[1])
def wants(key): return shlex.split(cfg[key])

setup(
    name=cfg['lib_name'], version=cfg['version'], description=cfg['description'], keywords=cfg['keywords'],
    author=cfg['author'], author_email=cfg['author_email'], url=cfg['git_url'], license='Apache-2.0',
    long_description=Path('README.md').read_text(encoding='utf-8'), long_description_content_type='text/markdown',
    classifiers=['Development Status :: 4 - Beta', 'Intended Audience :: Developers', 'Intended Audience :: Science/Research',
                 'Framework :: Jupyter'] + [f'Programming Language :: Python :: 3.{v}' for v in range(minor, 14)],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=['eva_cam', 'eva_cam.*']), include_package_data=True, zip_safe=False,
    install_requires=wants('requirements'),
    extras_require=dict(dev=wants('dev_requirements'), bench=wants('bench_requirements')),
    entry_points=dict(console_scripts=wants('console_scripts'), nbdev=[f"{cfg['lib_name']}={cfg['lib_name']}._modidx:d"]),
)
