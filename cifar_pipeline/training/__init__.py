from cifar_pipeline.models.environment import import_keras

import_keras()  # before a module of this package does
