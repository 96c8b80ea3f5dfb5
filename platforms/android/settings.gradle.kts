pluginManagement {
    repositories {
        google()
        mavenCentral()
    }
}
dependencyResolutionManagement {
    repositories {
        google()
        mavenCentral()
    }
}
rootProject.name = "runnel-android"
include(":runnel", ":example")
project(":example").projectDir = file("../../examples/android")
