# pip knows no override of what a package asks for; see taco.yaml.
python -m pip install --no-deps msclap==1.3.4
