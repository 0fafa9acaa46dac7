"""Lets llama.cpp's Vulkan backend compile with headers that lack one extension's C++ types, such as Debian 12's.

ggml-vulkan.cpp of build 11434 names the types of VK_EXT_layer_settings, which came with header version 268. It uses
them for one setting of a validation layer that no release build asks for. A header of our own stands before the
system's on the include path and adds the three types, in the layout of the specification
(VkLayerSettingsCreateInfoEXT).
"""

from __future__ import annotations

from pathlib import Path

EXTENSION = "VK_EXT_layer_settings"
OLDEST = 239  # the header version that this was tried with (Debian 12); older ones may lack more

_HEADER = """#pragma once
#include_next <vulkan/vulkan.hpp>

namespace vk {
enum class LayerSettingTypeEXT { eBool32 = 0 };

struct LayerSettingEXT {
    const char * pLayerName;
    const char * pSettingName;
    LayerSettingTypeEXT type;
    uint32_t valueCount;
    const void * pValues;
};

struct LayerSettingsCreateInfoEXT {
    explicit LayerSettingsCreateInfoEXT(const std::vector<LayerSettingEXT> & settings)
        : settingCount(static_cast<uint32_t>(settings.size())), pSettings(settings.data()) {}
    VkStructureType sType = static_cast<VkStructureType>(1000496000);
    const void * pNext = nullptr;
    uint32_t settingCount;
    const LayerSettingEXT * pSettings;
};
}
"""


def write_added_types(folder: Path) -> Path:
    """The folder to put before the system's on the include path."""
    header = folder / "vulkan" / "vulkan.hpp"
    header.parent.mkdir(parents=True, exist_ok=True)
    header.write_text(_HEADER)
    return folder
